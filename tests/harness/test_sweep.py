"""Rate sweeps: the knee and the highest rate within the SLO are found on a server whose limits are known."""

import pytest

from harness.collect.values import measured
from harness.scenario.schema import WorkloadSpec
from harness.workload.sweep import is_sweep, measure_sweep

CAPACITY, SLO_RATE = 20.0, 13.0
"""Of the made-up server: throughput stops at the first, the SLO is met up to the second."""


def cell(**arrival) -> dict:
    sweep = {"kind": "sweep", "from_rate_per_s": 1.0, "to_rate_per_s": 64.0, "num_rates": 7, "refine": 4} | arrival
    spec = {
        "name": "w", "prompt_tokens": 8, "output_tokens": 4, "num_requests": 10, "arrival": sweep, "slo": {"ttft_ms": 100.0},
    }  # fmt: skip
    workload = WorkloadSpec.model_validate(spec).model_dump(mode="json")
    return {"kind": "requests", "workload": workload, "stem": "s"}


def server(capacity: float = CAPACITY, slo_rate: float = SLO_RATE, state: str = "VALID"):
    asked = []

    def measure(one: dict) -> dict:
        rate = one["workload"]["arrival"]["rate_per_s"]
        asked.append((rate, one["stem"]))
        metrics = {
            "offered_rate": measured("offered_rate", rate, 10),
            "request_throughput": measured("request_throughput", min(rate, capacity), 10),
            "steady_request_throughput": measured("steady_request_throughput", min(rate, capacity), 10),
            "slo_attainment_pct": measured("slo_attainment_pct", 100.0 if rate <= slo_rate else 50.0, 10),
        }
        samples = {"requests": f"samples/{one['stem']}.parquet"}
        return {"metrics": metrics, "samples": samples, "verdict": {"state": state, "reasons": []}, "experts": None}

    return measure, asked


def test_highest_rate_and_knee():
    measure, asked = server()
    result = measure_sweep(cell(), measure)
    # Rates 1, 2, 4, 8, 16, 32 (misses both, so 64 is not asked); then 8..16 is halved by ratio four times.
    assert [round(rate, 6) for rate, _ in asked[:6]] == [1, 2, 4, 8, 16, 32] and len(asked) == 10
    found = result["metrics"]["max_slo_rate"]["value"]
    assert found <= SLO_RATE < found * 2 ** (1 / 16) * 1.0001
    assert result["metrics"]["knee_rate"]["value"] == pytest.approx(16.0)
    assert result["metrics"]["offered_rate"]["value"] == found
    assert [row["rate_per_s"] for row in result["sweep"]] == sorted(row["rate_per_s"] for row in result["sweep"])
    assert len(result["samples"]) == 11 and result["samples"]["requests"].endswith(f"rate{found:.4g}.parquet")
    assert len({stem for _, stem in asked}) == 10


def test_no_rate_meets_the_slo():
    result = measure_sweep(cell(), server(slo_rate=0.5)[0])
    metric = result["metrics"]["max_slo_rate"]
    assert metric["value"] is None and "no rate met the SLO, from 1/s on" in metric["reason"]
    assert "lower from_rate_per_s" in result["verdict"]["reasons"][0]["message"] and result["verdict"]["state"] == "WARN"


def test_every_rate_meets_the_slo():
    result = measure_sweep(cell(), server(capacity=1e9, slo_rate=1e9)[0])
    assert result["metrics"]["max_slo_rate"]["value"] == pytest.approx(64.0)
    assert result["verdict"]["state"] == "WARN" and result["verdict"]["reasons"][0]["code"] == "sweep_open"


def test_an_invalid_point_does_not_attain():
    result = measure_sweep(cell(), server(state="INVALID")[0])
    assert result["metrics"]["max_slo_rate"]["value"] is None


def test_only_request_cells_with_a_sweep_are_sweeps():
    plain = cell()
    plain["workload"]["arrival"] = {"kind": "poisson", "rate_per_s": 1.0}
    assert is_sweep(cell()) and not is_sweep(plain) and not is_sweep({"kind": "heldout", "workload": {}})
