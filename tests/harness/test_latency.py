"""Latency and throughput from time stamps, on a hand-made trace whose answers are known."""

import pytest

from harness.collect.latency import RequestTimes, StepTimes, cpu_metrics, latency_metrics, throughput_metrics

MS = 1_000_000


def request(name: str, scheduled: int, submitted: int, tokens: list[int], asked: int | None = None) -> RequestTimes:
    times = tuple(t * MS for t in tokens)
    return RequestTimes(name, scheduled * MS, submitted * MS, times, 10, asked or len(tokens))


TRACE = [request("a", 0, 5, [20, 30, 50]), request("b", 10, 10, [60, 70])]


def test_latency_counts_from_the_scheduled_time():
    metrics = latency_metrics(TRACE)
    assert metrics["mean_ttft_ms"]["value"] == pytest.approx((20 + 50) / 2)
    assert metrics["mean_e2el_ms"]["value"] == pytest.approx((50 + 60) / 2)


def test_tpot_is_a_mean_a_request_and_itl_pools_the_gaps():
    metrics = latency_metrics(TRACE)
    assert metrics["mean_tpot_ms"]["value"] == pytest.approx(((50 - 20) / 2 + (70 - 60) / 1) / 2)
    assert metrics["mean_itl_ms"]["value"] == pytest.approx((10 + 20 + 10) / 3)
    assert metrics["mean_itl_ms"]["n"] == 3


def test_p99_of_few_requests_is_null_with_the_reason():
    metric = latency_metrics(TRACE)["p99_ttft_ms"]
    assert metric["value"] is None and "100" in metric["reason"] and metric["n"] == 2


def test_throughput_is_over_the_whole_wall_time():
    metrics = throughput_metrics(TRACE, [])
    assert metrics["output_throughput"]["value"] == pytest.approx(5 / 0.070)
    assert metrics["total_token_throughput"]["value"] == pytest.approx(25 / 0.070)
    assert metrics["request_throughput"]["value"] == pytest.approx(2 / 0.070)
    assert metrics["prefill_throughput"]["value"] is None


def test_phase_throughput_counts_only_time_inside_the_phase():
    steps = [StepTimes(0, "prefill", 0, 20 * MS, 10, 1), StepTimes(1, "decode", 30 * MS, 40 * MS, 2, 2)]
    metrics = throughput_metrics(TRACE, steps)
    assert metrics["prefill_throughput"]["value"] == pytest.approx(10 / 0.020)
    assert metrics["decode_throughput"]["value"] == pytest.approx(2 / 0.010)


def test_nothing_answered_is_null_never_zero():
    silent = [RequestTimes("a", 0, 0, (), 10, 4)]
    metrics = latency_metrics(silent) | throughput_metrics(silent, [])
    assert all(metric["value"] is None and metric["reason"] for metric in metrics.values())


def test_cpu_time_is_the_median_over_decode_steps():
    steps = [StepTimes(i, phase, 0, 9_000_000, 1, 1, cpu) for i, (phase, cpu) in enumerate(
        [("prefill", 90_000_000), ("decode", 4_000_000), ("decode", 5_000_000), ("decode", 7_000_000)]
    )]  # fmt: skip
    assert cpu_metrics(steps, device="cpu")["median_step_cpu_ms"] == {"value": 5.0, "unit": "ms", "n": 3, "reason": None}


def test_cpu_time_of_a_gpu_or_of_no_step_is_null_with_the_reason():
    on_gpu = cpu_metrics([StepTimes(0, "decode", 0, 1, 1, 1, 5)], device="cuda")["median_step_cpu_ms"]
    assert on_gpu["value"] is None and "a GPU does the work" in on_gpu["reason"]
    assert "no decode step" in cpu_metrics([], device="cpu")["median_step_cpu_ms"]["reason"]
