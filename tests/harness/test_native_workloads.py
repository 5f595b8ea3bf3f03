"""The in-process path under every kind of arrival and length: the planned requests are what the engine runs."""

import json

import pyarrow.parquet as pq
import pytest

from harness.backends.native import NativeBackend
from harness.scenario.schema import WorkloadSpec
from harness.workload.requests import plan_requests
from scenario_files import scenario_data
from test_native_backend import ignore, load
from tiny_checkpoint import write_tiny


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> NativeBackend:
    loaded = NativeBackend()
    load(write_tiny(tmp_path_factory.mktemp("model") / "mine"), loaded)
    return loaded


def workload(**changes) -> dict:
    merged = scenario_data()["workloads"][0] | {"num_requests": 6} | changes
    return {key: value for key, value in merged.items() if value is not None}


def measure(backend, folder, told=ignore, **changes) -> dict:
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    spec = WorkloadSpec.model_validate(workload(**changes)).model_dump(mode="json")
    cell = {"kind": "requests", "model": "mine", "workload": spec, "is_baseline": True, "stem": "x"}
    return backend.measure(cell=cell, folder=str(folder), seed=3, progress=told)


def trace(folder) -> dict:
    path = folder / "trace.jsonl"
    rows = [{"timestamp": 20 * i, "input_length": 5 + i, "output_length": 2 + i, "hash_ids": [i]} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "mooncake", "path": str(path)}


KINDS = {
    "gamma-bursts": {"arrival": {"kind": "gamma", "rate_per_s": 100.0, "burstiness": 0.5}},
    "ramp": {"arrival": {"kind": "ramp", "from_rate_per_s": 50.0, "to_rate_per_s": 500.0}},
    "lengths-drawn": {
        "output_tokens": {"kind": "uniform", "low": 2, "high": 7},
        "prompt_tokens": {"kind": "zipf", "exponent": 1.0, "high": 20},
    },
    "shared-prefix": {"shared_prefix": {"tokens": 6, "num_prefixes": 2}},
    "capped": {"arrival": {"kind": "all_at_once", "max_concurrency": 2}},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_engine_runs_the_planned_requests(backend, tmp_path, changes):
    result = measure(backend, tmp_path, **changes)
    planned = plan_requests(WorkloadSpec.model_validate(workload(**changes)), backend.text()[0], 4096, 3)
    rows = pq.read_table(tmp_path / result["samples"]["requests"]).to_pylist()
    sizes = [(request.prompt_tokens, request.output_tokens) for request in planned]
    assert [(row["prompt_tokens"], row["output_tokens"]) for row in rows] == sizes
    if planned[0].scheduled_s is not None:
        start = rows[0]["scheduled_ns"]
        # The engine's loop rounds each time down to a nanosecond.
        assert all(abs(row["scheduled_ns"] - start - r.scheduled_s * 1e9) <= 2 for row, r in zip(rows, planned, strict=True))


def test_a_cap_holds_back_what_is_due(backend, tmp_path):
    result = measure(backend, tmp_path, **KINDS["capped"])
    rows = pq.read_table(tmp_path / result["samples"]["requests"]).to_pylist()
    assert all(later["submitted_ns"] >= first["end_ns"] for first, later in zip(rows, rows[2:], strict=False))


def test_trace_replay_has_times_lengths_and_a_block_in_the_record(backend, tmp_path):
    changes = {"prompt_tokens": None, "output_tokens": None, "arrival": {"kind": "trace", "time_scale": 0.5}}
    result = measure(backend, tmp_path, source=trace(tmp_path), **changes)
    rows = pq.read_table(tmp_path / result["samples"]["requests"]).to_pylist()
    assert [(row["prompt_tokens"], row["output_tokens"]) for row in rows] == [(5 + i, 2 + i) for i in range(6)]
    assert rows[5]["scheduled_ns"] - rows[0]["scheduled_ns"] == pytest.approx(50e6, abs=2)
    assert result["load"]["source"]["num_rows"] == 6


def test_slo_figures_and_sweep(backend, tmp_path):
    arrival = {"kind": "sweep", "from_rate_per_s": 20.0, "to_rate_per_s": 40.0, "num_rates": 2, "refine": 0}
    result = measure(backend, tmp_path, arrival=arrival, slo={"ttft_ms": 60_000.0})
    assert [round(row["rate_per_s"]) for row in result["sweep"]] == [20, 40]
    assert result["metrics"]["slo_attainment_pct"]["value"] == 100.0
    assert result["metrics"]["max_slo_rate"]["value"] == result["metrics"]["offered_rate"]["value"]
