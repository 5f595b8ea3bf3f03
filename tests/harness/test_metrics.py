"""The table of metrics: complete, without duplicates, units that fit the names."""

import subprocess
import sys

import pytest

from harness.metrics import METRICS
from harness.metrics.metric import Metric, by_name

THROUGHPUT = ["prefill_throughput", "decode_throughput", "output_throughput", "total_token_throughput"]
LATENCY = [
    f"{statistic}_{latency}_ms"
    for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99")
    for latency in ("ttft", "tpot", "itl", "e2el")
]
CPU = ["median_step_cpu_ms"]
QUALITY = [
    "perplexity",
    "bits_per_byte",
    "mean_nll_nats",
    "mean_kl_nats",
    "top1_agreement_pct",
    "num_scored_tokens",
    "perplexity_vs_native_pct",
]
CHANGE = ["perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct"]
WEIGHT_CAUSES = [
    "expert_codes_bytes",
    "expert_scales_bytes",
    "expert_tensor_scales_bytes",
    "attention_bytes",
    "embedding_bytes",
    "router_bytes",
    "norm_bytes",
]
SERVING = [
    *(
        f"{statistic}_{wait}_ms"
        for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99")
        for wait in ("queue", "send_lag", "connect", "loop_lag")
    ),
    *(f"p99.9_{latency}_ms" for latency in ("ttft", "tpot", "itl", "e2el")),
    *(f"steady_{statistic}_{latency}_ms" for statistic in ("median", "p99") for latency in ("ttft", "tpot", "itl", "e2el")),
]
GOOD = ["steady_output_throughput", "steady_request_throughput", "request_goodput", "slo_attainment_pct"]
GOOD += ["max_slo_rate", "knee_rate"]
AGREEMENT = ["greedy_agreement_pct", "identical_outputs_pct"]
CLIENT = ["failed_pct", "client_cpu_pct", "client_parse_us", "client_peak_rss_bytes"]
MEMORY = [*WEIGHT_CAUSES, "weight_bytes", "kv_cache_bytes", "activation_peak_bytes", "process_peak_rss_bytes"]

TELEMETRY = [
    "mean_power_w",
    "gpu_energy_joules",
    "joules_per_token",
    "tokens_per_joule",
    "mean_gpu_utilization_pct",
    "utilization_x_throughput",
    "median_sm_clock_mhz",
    "min_sm_clock_mhz",
    "median_memory_clock_mhz",
    "max_temperature_c",
    "throttled_pct",
    "peak_device_memory_bytes",
    "mean_cpu_utilization_pct",
    "reserved_bytes",
    "allocator_slack_bytes",
    "graph_pool_bytes",
    "outside_allocator_bytes",
    "other_processes_bytes",
]

# Checked in order; the first that ends the name holds.
UNIT_BY_SUFFIX = {
    "request_throughput": "requests/s",
    "request_goodput": "requests/s",
    "_rate": "requests/s",
    "_us": "us",
    "_throughput": "tokens/s",
    "_ms": "ms",
    "_bytes": "bytes",
    "_pct": "%",
    "_nats": "nats",
    "_tokens": "tokens",
    "bits_per_byte": "bits/byte",
    "perplexity": "1",
    "joules_per_token": "J/token",
    "tokens_per_joule": "tokens/J",
    "_joules": "J",
    "_w": "W",
    "_mhz": "MHz",
    "_c": "degC",
}


def test_exactly_the_names_that_records_use():
    serving = {*SERVING, *GOOD, *CLIENT, "offered_rate"}
    others = {*MEMORY, *TELEMETRY, *AGREEMENT, *serving}
    assert set(METRICS) == {*THROUGHPUT, "request_throughput", *LATENCY, *CPU, *QUALITY, *CHANGE, *others}


@pytest.mark.parametrize("name", METRICS)
def test_unit_fits_the_suffix_and_all_is_said(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.unit == next(unit for suffix, unit in UNIT_BY_SUFFIX.items() if name.endswith(suffix))
    assert metric.direction in ("higher", "lower", "none")
    assert metric.definition.endswith(".") and metric.formula


def test_direction_by_family():
    assert {METRICS[name].direction for name in [*THROUGHPUT, *GOOD, *AGREEMENT, "top1_agreement_pct"]} == {"higher"}
    lower = [*LATENCY, *MEMORY, *SERVING, *CLIENT, "perplexity", "bits_per_byte", "mean_nll_nats", "mean_kl_nats", CHANGE[0]]
    assert {METRICS[name].direction for name in lower} == {"lower"}
    assert {
        METRICS[name].direction for name in [*CHANGE[1:], "num_scored_tokens", "offered_rate", "perplexity_vs_native_pct"]
    } == {"none"}


def test_weight_bytes_is_the_sum_of_its_causes():
    assert METRICS["weight_bytes"].formula.split(" + ") == WEIGHT_CAUSES


def test_tpot_and_itl_are_told_apart():
    assert METRICS["mean_tpot_ms"].formula == "mean((e2el - ttft) / (output tokens - 1))"
    assert METRICS["p99_itl_ms"].formula == "p99(token[i + 1] - token[i])"


def test_a_name_defined_twice_is_refused():
    metric = Metric("x_ms", "ms", "lower", "X.", "x")
    with pytest.raises(ValueError, match=r"twice: \['x_ms'\]"):
        by_name((metric, metric))


def test_import_is_light():
    code = "import sys, harness.metrics; print({'numpy', 'scipy', 'torch', 'pandas'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_exact_metrics_are_those_that_repeat():
    from harness.metrics.primary import is_exact, primary_problem

    assert {name for name in METRICS if is_exact(name)} == {*QUALITY, *CHANGE, *MEMORY, *AGREEMENT} - {"process_peak_rss_bytes"}
    assert all(primary_problem(name) is None for name in (*THROUGHPUT, "request_throughput", *LATENCY, *CPU))
    assert all(primary_problem(name) for name in (*QUALITY, *CHANGE, "weight_bytes", "nonsense"))
