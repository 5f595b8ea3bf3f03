"""What is written: one self-contained page, Markdown with its pictures, a terminal table; light imports."""

import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from harness.errors import RunFolderError
from harness.report import terminal_table, write_reports
from harness.report.cells import REFERENCE_SPEED
from report_fixture import A100, CRASH, RTX_5090, Spec, make_run

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_reports([make_run(folder)], folder / "out")


@pytest.fixture(scope="module")
def html(paths):
    return paths.html.read_text(encoding="utf-8")


def plain(text):
    return text.replace("\u00a0", " ")


def test_page_is_whole_and_stays_small(paths, html):
    page = Page(html)
    assert page.open == []
    assert html.startswith("<!DOCTYPE html>")
    assert paths.html.stat().st_size < 3_000_000


def test_page_loads_nothing_from_elsewhere(html):
    page = Page(html)
    assert not page.all("link") and not any("src" in script for script in page.all("script"))
    assert not re.search(r"https?://|url\(|@import", html)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert all(anchor["href"].startswith("#") for anchor in page.all("a"))


def test_every_picture_has_words_and_size(paths, html):
    images = Page(html).all("img")
    assert len(images) == len(paths.plots) == 8
    assert all(len(image["alt"]) > 60 and int(image["width"]) > 600 for image in images)


def test_links_lead_to_sections(html):
    page = Page(html)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {anchor["href"][1:] for anchor in page.all("a")} <= ids


def test_page_answers_first_and_labels_reference_speed(html):
    text = plain(html)
    assert text.index("What did FP4 cost, and what did it buy here?") < text.index("3.56× less")
    assert "costs +1.3 % perplexity" in text
    assert text.count(REFERENCE_SPEED.replace("'", "&#39;")) > 6
    assert "which has no FP4 units" in text


def test_page_escapes_what_records_say(html):
    assert "&lt;killed&gt;" in html and "& no output" not in html
    assert "<killed>" not in html and "<invented>" not in html


def test_dash_points_at_a_footnote_with_its_reason(html):
    assert re.search(r"—<sup>\d+</sup>", html)
    assert "8 requests; a p99 needs 100" in plain(html)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("needs sm_100 or newer; this machine has no GPU", id="dropped-cell-with-reason"),
        pytest.param("worker_died", id="failed-cell-with-error"),
        pytest.param("triton-native: needs sm_100 or newer, this is cpu", id="refused-kernel"),
        pytest.param("0123456789ab with uncommitted changes", id="commit-and-dirty-flag"),
        pytest.param("harness run scenarios/smoke.yaml", id="command-line"),
        pytest.param("Output tokens over the wall time", id="definition"),
        pytest.param("3 of 8 requests were sent more than 20 ms late", id="reason-of-a-verdict"),
    ],
)
def test_page_and_markdown_both_say(paths, html, text):
    markdown = paths.markdown.read_text(encoding="utf-8").replace("\\", "")
    assert text in plain(html)
    assert text in markdown


def test_markdown_tables_have_as_many_fields_as_headers(paths):
    lines = paths.markdown.read_text(encoding="utf-8").splitlines()
    width = 0
    for before, line in zip(lines, lines[1:], strict=False):
        if re.fullmatch(r"\|(---\|)+", line):
            width = line.count("---")
            assert len(re.findall(r"(?<!\\)\|", before)) == width + 1
        elif line.startswith("|") and width:
            assert len(re.findall(r"(?<!\\)\|", line)) == width + 1 or "|---" in line or not before


def test_markdown_pictures_exist_and_html_in_errors_is_escaped(paths):
    markdown = paths.markdown.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((plots/[^)]+\.png)\)", markdown)
    assert {paths.markdown.parent / name for name in linked} == set(paths.plots)
    assert CRASH not in markdown and "&lt;killed&gt; after 3.1 s &amp; no output" in markdown


def test_several_machines_merge_into_one_report(tmp_path):
    kept = {"workloads": ("single", "heldout"), "failing": ()}
    specs = [Spec(target=A100, run_id="a", **kept), Spec(target=RTX_5090, run_id="b", speedup=1.9, **kept)]
    found = write_reports([make_run(tmp_path, spec) for spec in specs], tmp_path / "out")
    html = plain(found.html.read_text(encoding="utf-8"))
    assert "A100-SXM4-80GB · pocket-mixtral" in html and "RTX 5090 · pocket-mixtral" in html
    assert "The same scenario on each machine" in html
    assert REFERENCE_SPEED.replace("'", "&#39;") not in html
    assert found.html.stat().st_size < 3_000_000


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(Spec(failing=("*",)), id="everything-failed"),
        pytest.param(Spec(precisions=()), id="no-record"),
        pytest.param(Spec(precisions=("nvfp4",), workloads=("heldout",)), id="one-cell-without-baseline"),
    ],
)
def test_poor_runs_still_get_a_whole_report(tmp_path, spec):
    found = write_reports([make_run(tmp_path, spec)], tmp_path / "out")
    assert Page(found.html.read_text(encoding="utf-8")).open == []
    assert found.markdown.stat().st_size > 500


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="not a run's folder"):
        write_reports([tmp_path], tmp_path)
    with pytest.raises(ValueError, match="at least one run folder"):
        write_reports([], tmp_path)


def printed(runs, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(runs))
    return console.file.getvalue()


def test_terminal_table_fits_80_columns_and_marks_reference_speed(tmp_path):
    text = printed([make_run(tmp_path)])
    assert max(map(len, text.splitlines())) <= 80
    assert "VALID" in text and "+1.1 to +1.5" in text
    assert len(re.findall(r"\d ref\b", text)) == 12
    assert f"ref: {REFERENCE_SPEED}" in text


def test_terminal_table_gives_reasons_for_dashes(tmp_path):
    text = printed([make_run(tmp_path, Spec(weights_source="random"))])
    assert "— (1)" in text and "(1) random weights carry no perplexity" in text


def test_report_is_light_to_import_and_never_needs_torch(tmp_path):
    run = make_run(tmp_path, Spec(workloads=("heldout",)))
    code = (
        "import sys, harness.report as report\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'jinja2', 'numpy', 'rich', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"report.write_reports([{str(run)!r}], {str(tmp_path / 'out')!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_invalid_figures_are_marked_where_they_are_first_seen(tmp_path):
    spec = Spec(precisions=("bf16", "nvfp4"), workloads=("heldout",), invalid=("nvfp4/heldout",))
    found = write_reports([make_run(tmp_path, spec)], tmp_path / "out")
    html = plain(found.html.read_text(encoding="utf-8"))
    assert '<span class="badge invalid">✕ INVALID: heldout</span>' in html
    assert "INVALID: heldout |" in found.markdown.read_text(encoding="utf-8")
