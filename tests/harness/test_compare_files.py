"""The page, the Markdown and the plots of a comparison, and the command itself."""

import json

import pytest
from click.testing import CliRunner

from gate_runs import HOST, heldout, records, timed, write_run
from harness.cli.compare import compare
from harness.compare import compare_runs
from harness.compare.plots.pareto import frontier
from harness.compare.plots.points import Point
from harness.compare.write import write_comparison

H200 = {"kind": "h200", "name": "NVIDIA H200"}


@pytest.fixture
def runs(tmp_path):
    """Two machines, two precisions, speed and quality."""

    def rows(slower, target):
        return [
            *records(timed(slower), precision="bf16", target=target),
            *records(timed(0.6 * slower), target=target),
            heldout(20.0, precision="bf16", target=target, weights_sha256="00" * 32),
            heldout(20.2, target=target, weights_sha256="11" * 32),
        ]

    h100 = {"kind": "h100", "name": "NVIDIA H100"}
    far = HOST | {"host": "elsewhere"}
    return [write_run(tmp_path / "h100", rows(1.0, h100)), write_run(tmp_path / "h200", rows(0.8, H200), host=far)]


def test_files_hold_every_plot_and_verdict(runs, tmp_path):
    paths = write_comparison(compare_runs(runs), tmp_path / "out")
    html, markdown = paths["html"].read_text(), paths["markdown"].read_text()
    names = {path.stem for path in (tmp_path / "out" / "plots").glob("*.png")}
    assert names >= {"forest", "pareto-pocket-mixtral", "quality-speed-pocket-mixtral-single", "skew-pocket-mixtral-single"}
    assert names >= {"throughput-pocket-mixtral", "ttft-pocket-mixtral"}
    assert html.count("data:image/png") == len(names) and "http" not in html.split("<body>")[1]
    for text in (html, markdown):
        assert "What changed, and is it more than noise?" in text and "better" in text and "unlike machines" in text
    assert json.loads(paths["json"].read_text())["verdicts"]["better"] == 6


def test_forest_plot_says_in_words_what_it_shows(runs):
    from harness.compare.plots import draw_all

    (plot,) = draw_all(compare_runs(runs))["effects"]
    assert plot.png.startswith(b"\x89PNG") and "-20.0 % (better)" in plot.alt


def test_frontier_keeps_what_none_beats_in_both():
    points = [Point(None, x, y, "") for x, y in ((1, 10), (2, 9), (3, 20), (4, 15), (1, 8))]
    assert [(p.x, p.y) for p in frontier(points)] == [(1, 10), (3, 20)]


def test_command_prints_and_ends_in_0_even_when_worse(runs):
    done = CliRunner().invoke(compare, [str(run) for run in runs[::-1]])
    assert done.exit_code == 0, done.output
    assert "worse" in done.output and "machine differs" not in done.output.split("verdict")[0]


def test_json_only_on_standard_output(runs, tmp_path):
    done = CliRunner().invoke(
        compare, [*map(str, runs), "--json", "--metric", "median_itl_ms=10", "--out", str(tmp_path / "o")]
    )
    found = json.loads(done.output)
    assert found["primary"] == [{"metric": "median_itl_ms", "min_effect_pct": 10.0}]
    assert found["files"]["html"].endswith("compare.html")
