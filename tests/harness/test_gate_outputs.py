"""JUnit XML, Markdown, annotations, JSON of one result that holds every state."""

import json
from xml.etree import ElementTree

import pytest

from gate_runs import heldout, record, records, timed, write_run
from harness.gate import github, junit, markdown, output
from harness.gate.decide import decide, with_policy
from harness.report.data import load
from harness.scenario.gates import GateSpec

NOISY = (1.0, 1.3, 0.8, 1.2, 0.85, 1.15, 0.75, 1.1, 0.9, 1.25)


@pytest.fixture
def result(tmp_path):
    """A regression, an open answer, a null, a missing baseline and a pass, over two cells."""
    old = timed() | {"median_ttft_ms": timed(shape=NOISY)["median_ttft_ms"]}
    new = timed(1.2) | {"median_ttft_ms": timed(shape=NOISY[::-1])["median_ttft_ms"], "output_throughput": [None] * 10}
    folders = (
        write_run(tmp_path / "old", records(old)),
        write_run(tmp_path / "new", [*records(new), heldout(20.0, precision="bf16")]),
    )
    return decide(*(load(folder) for folder in folders), GateSpec())


def test_junit_counts_and_kinds(result):
    root = ElementTree.fromstring(junit.render(result))
    assert root.tag == "testsuites" and len(root) == 2
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert cases["median_itl_ms"].find("failure") is not None
    assert cases["median_ttft_ms"].find("error").get("type") == "inconclusive"
    assert cases["output_throughput"].find("error").get("type") == "nothing measured"
    assert cases["kernel_selection"].find("*") is None
    assert int(root.get("tests")) == len(cases) and int(root.get("failures")) == 1


def test_junit_of_a_warning_is_skipped_and_not_passed(result):
    root = ElementTree.fromstring(junit.render(with_policy(result, "warn")))
    case = next(case for case in root.iter("testcase") if case.get("name") == "median_ttft_ms")
    assert case.find("skipped") is not None and root.get("skipped") == "1"


def test_markdown_says_what_fails_first_and_keeps_a_marker(result):
    text = markdown.render(result)
    assert text.startswith("<!-- harness gate: gate -->\n## ❌ Regression in 1 of 5 gates")
    assert "+20.0" in text and "<details><summary>Every gate" in text
    assert "Inconclusive means: neither a regression nor its absence was shown." in text
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table_lines} == {8}  # whole rows: 7 cells each


def test_markdown_cannot_be_broken_by_a_name(tmp_path):
    row = record({}, status="failed")
    row["error"]["message"] = "a | b <script> `x`\nnext"
    runs = [load(write_run(tmp_path / name, [row])) for name in ("old", "new")]
    text = markdown.render(decide(*runs, GateSpec()))
    assert "<script>" not in text and "a \\| b" in text


def test_annotations_are_escaped_and_one_a_line(result):
    lines = github.annotations(result)
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) and "\n" not in line for line in lines)
    assert any("20.0 %25" in line for line in lines)
    warned = github.annotations(with_policy(result, "warn"))
    assert sum(line.startswith("::warning ") for line in warned) == 1
    assert not any("kernel_selection" in line for line in lines)


def test_json_holds_every_number_and_no_nan(result, tmp_path):
    paths = output.write(result, tmp_path / "out")
    data = json.loads(paths["json"].read_text(), parse_constant=lambda name: pytest.fail(name))
    assert data["exit_code"] == 1 and data["state"] == "regression"
    judged = next(o["judgement"] for o in data["outcomes"] if o["metric"] == "median_itl_ms")
    assert judged["num_a"] == 10 and judged["low"] < judged["ratio"] < judged["high"]
    assert {path.name for path in paths.values()} == {"gate.json", "gate.md", "gate.junit.xml"}


def test_terminal_table_has_a_row_a_gate(result):
    table = output.terminal_table(result)
    assert table.row_count == len(result.outcomes) + 2  # and a heading a cell
