"""The timeline: blocks that lose no time and no peak, a ten-minute run in a small page, and what a real browser draws of it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from harness.report import write_reports
from harness.report.timeline.blocks import join_steps, rows_of, thin
from long_run import make_long_run
from report_fixture import make_run

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)


def columns(phases: list[int]) -> dict[str, np.ndarray]:
    start = np.arange(len(phases)) * 10
    ones = np.ones(len(phases), int)
    return {
        "start": start, "end": start + 8, "phase": np.array(phases), "tokens": ones * 3, "requests": np.arange(len(phases)),
        "hit": np.linspace(2, 8, len(phases)),
    }  # fmt: skip


@pytest.mark.parametrize("limit", [pytest.param(1000, id="as-they-are"), pytest.param(20, id="joined")])
def test_blocks_lose_no_step_no_token_and_no_time(limit):
    blocks = join_steps(columns([0] * 5 + [1] * 80 + [0] * 5 + [1] * 40), limit)
    assert len(blocks["start"]) <= max(limit, 130) and sum(blocks["count"]) == 130
    assert sum(blocks["busy"]) == 130 * 8 and sum(blocks["tokens"]) == 390
    assert max(blocks["requests"]) == 129, "the largest batch is not averaged away"
    assert blocks["start"][0] == 0 and blocks["end"][-1] == 1298


def test_phases_that_alternate_are_joined_all_the_same():
    blocks = join_steps(columns([0, 1] * 100), 30)
    assert len(blocks["start"]) <= 30 and sum(blocks["count"]) == 200


def test_no_steps_no_blocks():
    assert join_steps(columns([]))["start"] == []


def test_thinned_readings_keep_their_peaks_and_leave_gaps_out():
    values = np.sin(np.arange(50_000) / 50.0)
    values[31_234], values[:100] = 9.0, np.nan
    times, kept = thin(np.arange(50_000), values, 1000)
    assert len(times) <= 1000 and max(kept) == 9.0 and times == sorted(times) and times[0] >= 100


def test_requests_share_rows_where_they_do_not_overlap():
    assert rows_of([0, 5, 10, 12], [10, 20, 15, 30]) == [0, 1, 0, 2]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    return write_reports([make_long_run(folder)], folder / "out").html


def data_of(page) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page.read_text(), re.DOTALL).group(1))


def test_ten_minutes_fit_a_page(page):
    data = data_of(page)
    assert data["end"] > 590e6 and len(data["requests"]["start"]) > 2500
    assert sum(data["steps"]["count"]) > 30_000 and len(data["steps"]["start"]) <= 20_000
    assert {series["label"] for series in data["telemetry"]} >= {"SM clock", "power", "throttled", "memory in use"}
    assert page.stat().st_size < 5_000_000


def test_page_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text) and "fetch(" not in text and "import(" not in text


def test_a_cell_without_samples_has_no_timeline(tmp_path):
    run = make_run(tmp_path)
    for file in (run / "samples").iterdir():
        file.unlink()
    assert 'class="timeline"' not in write_reports([run], tmp_path / "out").html.read_text()


PROBE = """
<script>
const [t] = harnessTimelines(), times = [];
for (let i = 0; i < 12; i++) { const a = performance.now(); t.zoom(.6, 380e6); t.draw(); times.push(performance.now() - a); }
const near = t.view[1] - t.view[0]; t.view = t.full.slice(); const b = performance.now(); t.draw();
const trace = t.trace(), hover = t.at(700, t.lanes.find((l) => l.kind === "steps").y + 4);
document.title = JSON.stringify({ rects: +t.box.dataset.rects, whole: performance.now() - b, worst: Math.max(...times), near,
  events: trace.traceEvents.length, kinds: [...new Set(trace.traceEvents.map((e) => e.ph))].sort(), hover,
  negative: trace.traceEvents.filter((e) => e.ph === "X" && !(e.dur >= 0)).length });
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it to see the page in a real browser")
def test_a_real_browser_draws_ten_minutes_at_once_and_zooms(page, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", f"--user-data-dir={tmp_path / 'u'}"]
    done = subprocess.run([CHROMIUM, *options, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL).group(1)
    found = json.loads(title.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<"))
    assert 500 < found["rects"] < 20_000, "a few rectangles a pixel, not one a step"
    # A frame: 16 ms on a quiet desktop; these two cores are shared and draw in software, so a second is the bound for hanging.
    assert found["whole"] < 1000 and found["worst"] < 1000
    assert found["near"] < 2e6, "zoomed in to below two seconds"
    assert found["kinds"] == ["C", "M", "X"] and found["events"] > 20_000 and found["negative"] == 0
    assert "step" in found["hover"]
