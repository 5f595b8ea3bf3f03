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
from load_cases import needs_a_processor

SLOTS, TTFT_MS = 4, 200.0
CAPACITY = SLOTS / (TTFT_MS / 1e3)
"""20 requests/s: each of 4 slots is taken for 200 ms."""


@pytest.mark.slow
def test_capacity_is_found(tmp_path):
    needs_a_processor()
    spec = WorkloadSpec.model_validate(
        {
            "name": "w", "prompt_tokens": 4, "output_tokens": 2, "num_requests": 60, "slo": {"ttft_ms": 700.0},
            "arrival": {"kind": "sweep", "process": "constant", "from_rate_per_s": 5.0, "to_rate_per_s": 80.0, "num_rates": 5,
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
    # Rates 5, 10, 20, 40; then three between the last that met the SLO and the first that did not. The last of 60 requests at a
    # rate above capacity waits 60 / capacity - 60 / rate: 500 ms, which with the TTFT is the limit, at 1.2 times the capacity.
    # From below, 20/s itself may be missed, and the next tried are 14, 17 and 18/s.
    assert 0.65 * CAPACITY <= result["metrics"]["max_slo_rate"]["value"] <= 1.25 * CAPACITY
    assert 0.45 * CAPACITY <= result["metrics"]["knee_rate"]["value"] <= 1.35 * CAPACITY
    assert not result["sweep"][-1]["attains_slo"] and not result["sweep"][-1]["keeps_up"]
    assert any(reason["code"] in ("unsteady", "no_steady_window") for reason in result["sweep"][-1]["verdict"]["reasons"])
