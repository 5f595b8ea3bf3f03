"""A sweep over HTTP against a server whose capacity is known: the knee and the limit are found where they are."""

import pytest

from harness.client import Endpoint, run_load
from harness.client.from_spec import client_options
from harness.collect.load import load_figures
from harness.collect.load_verdict import judge_load
from harness.collect.slo import slo_of
from harness.mock import MockOptions, serve_mock
from harness.scenario.schema import WorkloadSpec
from harness.verdict import verdict
from harness.workload.requests import plan_requests
from harness.workload.sweep import measure_sweep

SLOTS, TTFT_MS = 4, 40.0
CAPACITY = SLOTS / (TTFT_MS / 1e3)
"""100 requests/s: each of 4 slots is taken for 40 ms; the mock's timers round up by at most 1 ms, 3 %."""


@pytest.mark.slow
def test_capacity_is_found(tmp_path):
    spec = WorkloadSpec.model_validate(
        {
            "name": "w", "prompt_tokens": 4, "output_tokens": 2, "num_requests": 150, "slo": {"ttft_ms": 150.0},
            "arrival": {"kind": "sweep", "process": "constant", "from_rate_per_s": 25.0, "to_rate_per_s": 400.0, "num_rates": 5,
                        "refine": 3},
        }
    )  # fmt: skip
    cell = {"kind": "requests", "workload": spec.model_dump(mode="json"), "stem": "s"}
    with serve_mock(MockOptions(ttft_ms=TTFT_MS, slots=SLOTS)) as server:

        def measure(one: dict) -> dict:
            at = WorkloadSpec.model_validate(one["workload"])
            planned, options = plan_requests(at, None, 100, 0), client_options(at)
            result = run_load(Endpoint(server.url, "mock"), planned, options, folder=tmp_path / one["stem"])
            figures = load_figures(result, slo_of(at))
            state = verdict(judge_load(result, figures))
            return {"metrics": figures.metrics, "samples": {}, "verdict": state, "load": figures.block}

        result = measure_sweep(cell, measure)
    # Rates 25, 50, 100, 200; then 141, 119 and 109 or one of their neighbours. 150 requests at a rate above capacity wait
    # up to 150 / capacity - 150 / rate: 150 ms less 40 of TTFT is reached at 1.08 times the capacity.
    assert 0.70 * CAPACITY <= result["metrics"]["max_slo_rate"]["value"] <= 1.12 * CAPACITY
    assert 0.45 * CAPACITY <= result["metrics"]["knee_rate"]["value"] <= 1.20 * CAPACITY
    assert not result["sweep"][-1]["attains_slo"] and not result["sweep"][-1]["keeps_up"]
    assert any(reason["code"] in ("unsteady", "no_steady_window") for reason in result["sweep"][-1]["verdict"]["reasons"])
