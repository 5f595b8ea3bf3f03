"""One report across GPUs: a measurement is never replaced, a projection never goes unmarked."""

import json
import re

import pytest

from commands import assert_refused, run_harness
from harness.project.estimate import COLOR, Estimate
from harness.project.gpus import gpu_spec
from harness.report import write_reports
from harness.report.across import across_rows, projection_records
from harness.report.cells import measured_cells
from harness.report.data import load
from harness.report.tables.across import across_table

BASELINE = "results/baselines/mixtral-cpu"
GPUS = ("A100", "H100", "H200", "RTX 5090", "B200")
H200 = {"kind": "h200", "name": "NVIDIA H200"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The committed CPU run, and the same scenario as if mixtral-8x7b in NVFP4 had been measured on an H200."""
    folder = tmp_path_factory.mktemp("runs") / "h200"
    folder.mkdir()
    base = load(BASELINE)
    asked = ("mixtral-8x7b", "nvfp4", "batch8")
    names = lambda cell: (cell["model"], cell["precision"]["weights"], cell["workload"]["name"])  # noqa: E731
    wanted = next(cell for cell in base.plan["dropped"] if names(cell) == asked)
    chosen = [{"op": "experts", "chosen": "cuda-fragments-decode", "is_reference": False}]
    info = base.info | {"run_id": "h200", "plan": {"cells": [wanted | {"target": "h200"}], "dropped": []}}
    (folder / "run.json").write_text(json.dumps(info))
    lines = []
    for repeat, speed in enumerate((700.0, 710.0, 720.0)):
        metrics = {name: {"value": value, "unit": unit, "n": 16, "reason": None} for name, value, unit in
                   (("output_throughput", speed, "tokens/s"), ("median_ttft_ms", 31.0, "ms"))}  # fmt: skip
        lines.append(wanted | {
            "repeat": repeat, "status": "ok", "target": H200, "verdict": {"state": "VALID", "reasons": []}, "metrics": metrics,
            "weights": {"source": "random"}, "implementation": chosen,
        })  # fmt: skip
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [load(BASELINE), load(folder)]


def rows_of(runs, names=GPUS):
    return across_rows(runs, measured_cells(runs), [gpu_spec(name) for name in names])


def test_measured_where_a_record_is_projected_elsewhere(runs):
    rows = {(row.wanted.precision["id"], row.wanted.workload["name"]): row for row in rows_of(runs)}
    row = rows["nvfp4-search-a16", "batch8"]
    by_gpu = {place.gpu: place for place in row.places}
    assert by_gpu["H200"].measured is not None and by_gpu["H200"].projection is None
    assert by_gpu["H200"].figure("output_throughput").median == 710.0
    for name in ("A100", "H100", "RTX 5090", "B200"):
        assert isinstance(by_gpu[name].figure("output_throughput"), Estimate)
    assert by_gpu["H100"].figure("output_throughput").label == "projected"
    assert by_gpu["A100"].figure("output_throughput").label == "projected, unvalidated"


def test_what_does_not_fit_says_so(runs):
    rows = {(row.wanted.precision["id"], row.wanted.workload["name"]): row for row in rows_of(runs)}
    place = next(place for place in rows["bf16-a16", "single"].places if place.gpu == "RTX 5090")
    assert place.projection is None and place.reason.startswith("does not fit: experts 90.2")


def test_no_gpu_asked_for_no_section(runs):
    assert across_rows(runs, measured_cells(runs), []) == [] and across_table([]) is None


def test_a_gpu_without_record_and_projection_says_how_to_get_one(runs):
    rows = rows_of(runs, ("A100",))
    reasons = {place.reason for row in rows for place in row.places if place.gpu == "H200" and not place.measured}
    assert reasons == {"not measured on H200, and no projection was asked for (--project)"}


def test_every_record_of_a_projection_is_marked(runs):
    records = projection_records(rows_of(runs))
    assert len(records) >= 15
    for record in records:
        assert record["kind"] in ("projected", "projected, unvalidated") and record["basis"]


def test_marks_in_text_colour_and_record(runs, tmp_path):
    paths = write_reports([run.path for run in runs], tmp_path, GPUS)
    html, markdown = paths.html.read_text(), paths.markdown.read_text()
    entries = re.findall(r'<td[^>]*class="projected">(.*?)</td>', html, flags=re.DOTALL)
    assert len(entries) >= 15
    for entry in entries:
        assert "projected" in re.sub(r"<[^>]+>", "", entry)
    assert f"td.projected .figure, td.projected .unit {{ color: {COLOR}" in html
    table = [line for line in markdown.splitlines() if line.startswith("| **NVFP4") and "tokens/s*" in line]
    assert table and all(line.count("*~") + line.count(" to ") > 0 and "projected" in line for line in table)
    assert "710 tokens/s (measured" in markdown
    data = json.loads((tmp_path / "projections.json").read_text())
    assert data["kind"] == "projected" and {r["gpu"] for r in data["projections"]} == set(GPUS)
    assert "Published by others, never run here" in html and "baseten.co" in html
    assert {path.name for path in paths.plots} >= {"across-mixtral-8x7b-batch8.png"}


def test_an_unknown_gpu_is_refused_before_anything_is_written(tmp_path):
    done = run_harness("report", BASELINE, "--project", "H300", "--out", tmp_path / "x")
    assert_refused(done, "--project 'H300': not a known GPU", "RTX 5090")
    assert not (tmp_path / "x").exists()


def test_claims_of_the_scenario_stand_in_the_report(tmp_path):
    run = load(BASELINE)
    folder = tmp_path / "claimed"
    folder.mkdir()
    claims = [{"name": "C3", "says": "18.5 GB <on> RTX 5090", "checks": ["memory = 18.5 GB on RTX 5090"], "note": ""}]
    info = run.info | {"scenario": run.info["scenario"] | {"claims": claims}}
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in run.records))
    html = write_reports([folder], folder).html.read_text()
    assert 'id="claims"' in html and "C3: IMPOSSIBLE." in html and "18.5 GB &lt;on&gt; RTX 5090" in html
