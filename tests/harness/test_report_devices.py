"""Report tables of devices: telemetry with its dashes, the memory ledger with what nobody accounts for, the profile's rows."""

import json

import pytest

from harness.profile.block import profile_block
from harness.report.cells import measured_cells
from harness.report.data import load
from harness.report.tables.ledger import ledger_table
from harness.report.tables.profile import layers_table, ranges_table, roofline_table
from harness.report.tables.telemetry import telemetry_table
from harness.telemetry.summary import telemetry_metrics
from profile_gpu import gpu_result
from report_fixture import A100, Spec, make_run
from simulated_nvml import steady
from test_telemetry import SECOND, replay

GB = 10**9


@pytest.fixture
def run(tmp_path):
    """One cell on a GPU, to which tests add."""
    return make_run(tmp_path, Spec(precisions=("nvfp4",), workloads=("batch8",), target=A100, num_repeats=1, failing=()))


def cells_with(run, **changes):
    record = json.loads((run / "records.jsonl").read_text())
    metrics = record["metrics"] | changes.pop("metrics", {})
    (run / "records.jsonl").write_text(json.dumps(record | changes | {"metrics": metrics}) + "\n")
    return measured_cells([load(run)])


def texts(found) -> list[list[str]]:
    return [[f"{entry.text} {entry.unit}".strip() for entry in row] for group in found.groups for row in group.rows]


def test_telemetry_shows_what_was_read_and_says_what_was_not(run):
    metrics = telemetry_metrics(replay(steady(21, temperature_c=None)), SECOND)
    found = telemetry_table(cells_with(run, metrics=metrics))
    assert "Temperature" not in found.headers, "a column that no cell has is left out"
    (row,) = texts(found)
    assert "500 W" in row and "2.5 J/token" in [text.replace("2.50", "2.5") for text in row]


def test_no_telemetry_no_table(run):
    assert telemetry_table(cells_with(run)).num_rows == 0


def entry(value: float) -> dict:
    return {"value": value, "unit": "bytes", "n": 1, "reason": None}


def test_ledger_of_a_gpu_adds_up_to_what_nvml_counts(run):
    names = ("expert_codes", "expert_scales", "expert_tensor_scales", "attention", "embedding", "router", "norm", "kv_cache")
    metrics = {f"{name}_bytes": entry(GB) for name in names} | {"allocator_slack_bytes": entry(2 * GB)}
    metrics |= {"outside_allocator_bytes": entry(GB), "other_processes_bytes": entry(3 * GB)}
    metrics |= {"peak_device_memory_bytes": entry(15 * GB)}
    predicted = dict.fromkeys(names, GB) | {"kv_cache": 2 * GB}
    rows = {row[0]: row[1:] for row in texts(ledger_table(cells_with(run, metrics=metrics, predicted_memory_bytes=predicted)))}
    assert rows["Expert codes"][2] == "none" and rows["KV cache"][2].replace("−", "-").startswith("-50")
    assert rows["Not accounted for"][1] == "1 GB" or rows["Not accounted for"][1].startswith("1.0")  # 15 - 8 - 2 - 1 - 3
    assert rows["Allocator slack"][0] == "—" or rows["Allocator slack"][0] == "–", "not predicted"


def test_ledger_sets_the_whole_prediction_of_a_gpu_beside_what_nvml_counts(run):
    metrics = {"peak_device_memory_bytes": entry(11 * GB)}
    predicted = {"expert_codes": 8 * GB, "step_workspace": GB, "cuda": GB}
    rows = {row[0]: row[1:] for row in texts(ledger_table(cells_with(run, metrics=metrics, predicted_memory_bytes=predicted)))}
    whole = rows["Whole, as the system counts it"]
    assert whole[0].startswith("10") and whole[2].startswith("+10"), "11 measured for 10 predicted"


def test_profile_tables_of_a_gpu(run):
    block = profile_block(run, gpu_result(run), None, None, on_gpu=True)
    cells = cells_with(run, profile=block)
    rows = {row[0].strip(): row for row in texts(ranges_table(cells))}
    assert rows["experts"][7:9] == ["59.00 µs", "67.6 %"] and rows["decode step"][9] == "10.0"
    notes = " ".join(ranges_table(cells).footnotes)
    assert "captured in" in notes and "inside a CUDA graph" in notes
    assert [row[0] for row in texts(roofline_table(cells))] == ["attention", "attention projections", "experts", "head"]
    assert layers_table(cells).num_rows == 2 * 2, "experts and attention of two layers"


def test_a_run_without_profiles_has_no_profile_tables(run):
    assert ranges_table(cells_with(run)).num_rows == 0
