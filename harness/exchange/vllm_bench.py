"""The result JSON of `vllm bench serve --save-result`, written. `vllm_bench_read` reads it.

Keys and units: vllm/benchmarks/serve.py of vLLM 0.32.0 (arrays in seconds, metrics in ms). vLLM counts from the time of
sending; the wait before it is `queue_times`. Its std divides by n. Our p99 is null below 100 samples; the key is then left
out, where vLLM prints a figure. Not written: generated texts, which are not kept as vLLM does, and `rtfx`, which is of audio.
"""

from collections import Counter
from datetime import datetime, timedelta
from itertools import accumulate

from harness.exchange.distribution import distribution
from harness.exchange.served import Served

_FAMILIES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "std", "p50", "p90", "p95", "p99")


def export(served: Served) -> dict:
    """One repeat as `--save-result --save-detailed` writes it; without the arrays where the samples are gone."""
    head = {
        "date": _date(served),
        "endpoint_type": served.record["backend"],
        "backend": served.record["backend"],
        "label": served.record["precision"]["label"],
        "model_id": served.record["model"],
        "tokenizer_id": served.record["model"],
        "num_prompts": served.workload["num_requests"],
        "harness_run_id": served.run.run_id,
        "harness_cell_id": served.record["cell_id"],
        "harness_repeat": served.record["repeat"],
        "harness_weights_sha256": (served.record.get("weights") or {}).get("sha256"),
        "max_concurrency": served.max_in_flight,
    } | _traffic(served.workload.get("arrival") or {})
    totals = {
        "duration": served.duration_s,
        "completed": served.num_completed,
        "failed": served.num_failed,
        "total_input_tokens": served.input_tokens,
        "total_output_tokens": served.output_tokens,
        "request_throughput": served.metric("request_throughput"),
        "request_goodput": served.metric("request_goodput"),
        "output_throughput": served.metric("output_throughput"),
        "total_token_throughput": served.metric("total_token_throughput"),
    }
    return head | totals | (_from_metrics(served) if served.requests is None else _arrays(served) | from_samples(served))


def _traffic(arrival: dict) -> dict:
    """vLLM's rate and shape; null where vLLM has no such traffic (a trace's times, gaps that are all the same)."""
    if arrival.get("kind") == "ramp":
        ends = {"ramp_up_start_rps": arrival["from_rate_per_s"], "ramp_up_end_rps": arrival["to_rate_per_s"]}
        return {"request_rate": "inf", "burstiness": 1.0, "ramp_up_strategy": "linear"} | ends
    is_unlimited = arrival.get("kind") in ("closed", "all_at_once")
    shape = None if arrival.get("kind") in ("constant", "trace") else float(arrival.get("burstiness") or 1.0)
    return {"request_rate": "inf" if is_unlimited else arrival.get("rate_per_s"), "burstiness": shape}


def _arrays(served: Served) -> dict:
    rows = served.requests
    return {
        "input_lens": [row.prompt_tokens for row in rows],
        "output_lens": [row.output_tokens for row in rows],
        "ttfts": served.sent_latencies_s("ttft"),
        "itls": [list(row.gaps_s) for row in rows],
        "latencies": served.sent_latencies_s("e2el"),
        "start_times": [row.start_s for row in rows],
        "queue_times": [row.queue_s for row in rows],
        "errors": ["" for _ in rows],
    } | peaks(served)


def peaks(served: Served) -> dict:
    """Most tokens in, and requests alive in, one of the seconds counted from the first start: vLLM's definition."""
    if not served.requests:
        return {}
    tokens, alive = Counter(), Counter()
    for row, ttft_s, latency_s in zip(
        served.requests, served.sent_latencies_s("ttft"), served.sent_latencies_s("e2el"), strict=True
    ):
        tokens.update(int(time_s) for time_s in accumulate(row.gaps_s, initial=row.start_s + ttft_s))
        alive.update(range(int(row.start_s), int(row.start_s + latency_s) + 1))
    return {"max_output_tokens_per_s": float(max(tokens.values())), "max_concurrent_requests": max(alive.values())}


def from_samples(served: Served) -> dict[str, float]:
    """vLLM's statistics: from the time of sending, std over n; a percentile of too few samples is left out."""
    found = {}
    for family in _FAMILIES:
        statistics = distribution([1e3 * value for value in served.sent_latencies_s(family)])
        statistics |= {"median": statistics.get("p50"), "std": statistics.get("std_population")}
        found |= {f"{name}_{family}_ms": statistics[name] for name in _STATISTICS if statistics.get(name) is not None}
    return found


def _from_metrics(served: Served) -> dict[str, float]:
    """Without samples: TTFT and E2EL of an open loop count from another time than vLLM's, and our std divides by n - 1."""
    is_closed = (served.workload.get("arrival") or {}).get("kind") == "closed"
    families = [family for family in _FAMILIES if is_closed or family in ("tpot", "itl")]
    names = [f"{statistic}_{family}_ms" for family in families for statistic in _STATISTICS if statistic != "std"]
    return {name: served.metric(name) for name in names if served.metric(name) is not None}


def _date(served: Served) -> str:
    """The end, as in vLLM's file; in UTC, where vLLM has the client's local time."""
    start = datetime.fromisoformat(served.record["started_utc"].replace("Z", "+00:00"))
    return (start + timedelta(seconds=served.duration_s)).strftime("%Y%m%d-%H%M%S")
