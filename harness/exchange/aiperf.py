"""AIPerf's profile_export_aiperf.json, written. `aiperf_read` reads it.

Form: schema 1.4 of aiperf 0.13.0 (aiperf/common/models/export_models.py, which its own model accepts). A metric is a block
{unit, avg, min, max, std, p1 ... p99, count, sum}; what is unset is left out. AIPerf counts from the time of sending; the
wait before it is `credit_to_start_latency`, and with it `effective_latency`. Its `inter_token_latency` is one value a
request, our TPOT; our ITL, the pooled gaps, is its `inter_chunk_latency`. Its std divides by n.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from harness.exchange.distribution import PERCENTILES, distribution
from harness.exchange.served import RequestRow, Served

SCHEMA_VERSION = "1.4"
FAMILIES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "itl",
    "request_latency": "e2el",
}
_FROM_METRICS = {"avg": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_PHASES = {
    "closed": "concurrency",
    "poisson": "poisson",
    "constant": "constant",
    "gamma": "gamma",
    "all_at_once": "concurrency",
}
"""Our kinds of arrival by AIPerf's phases. All at once is a concurrency of all requests; a ramp or a trace has no phase."""


def export(served: Served) -> dict:
    """One repeat as AIPerf writes it; distributions come from the samples, or from the metrics where those are gone."""
    blocks = {name: block for name, block in (_totals(served) | _distributions(served)).items() if block is not None}
    config = _config(served)
    run_id, repeat = served.run.run_id, served.record["repeat"]
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark_id": run_id,
        **blocks,
        **({} if config is None else {"input_config": config}),
        "run_info": {"benchmark_id": run_id, "trial": repeat, "run_label": served.record["cell_id"]},
        "was_cancelled": False,
        "is_complete": True,
        "error_summary": _errors(served),
        **_times(served),
    }


def _totals(served: Served) -> dict:
    ended = served.num_completed + served.num_failed
    failed = _one("requests", served.num_failed) if served.num_failed else None
    return {
        "request_throughput": _one("requests/sec", served.metric("request_throughput")),
        "request_count": _one("requests", served.num_completed),
        "error_request_count": failed,
        "completed_request_count": _one("requests", ended),
        "request_error_rate": _one("%", 100 * served.num_failed / ended),
        "output_token_throughput": _one("tokens/sec", served.metric("output_throughput")),
        "input_token_throughput": _one("tokens/sec", served.input_tokens / served.duration_s),
        "total_token_throughput": _one("tokens/sec", served.metric("total_token_throughput")),
        "total_output_tokens": _one("tokens", served.output_tokens),
        "total_osl": _one("tokens", served.output_tokens),
        "total_isl": _one("tokens", served.input_tokens),
        "benchmark_duration": _one("sec", served.duration_s),
    }


def _distributions(served: Served) -> dict:
    if served.requests is None:
        lengths = {"output_sequence_length": served.output_tokens, "input_sequence_length": served.input_tokens}
        return {name: _from_metrics(served, family) for name, family in FAMILIES.items()} | {
            name: _one("tokens", total / served.num_completed) for name, total in lengths.items()
        }
    rows = served.requests
    outputs = _block("tokens", [row.output_tokens for row in rows])
    return (
        {name: _block("ms", _in_ms(served.sent_latencies_s(family))) for name, family in FAMILIES.items()}
        | {name: _block("ms", _in_ms(values)) for name, values in _waits(rows).items()}
        | {
            "output_token_throughput_per_user": _block("tokens/sec/user", [1 / row.tpot_s for row in rows if row.tpot_s]),
            "output_sequence_length": outputs,
            "output_token_count": outputs,
            "input_sequence_length": _block("tokens", [row.prompt_tokens for row in rows]),
        }
    )


def _waits(rows: Sequence[RequestRow]) -> dict[str, list[float]]:
    """Seconds, by AIPerf's name."""
    return {
        "time_to_second_token": [row.gaps_s[0] for row in rows if row.gaps_s],
        "decode_duration": [row.latency_s - row.ttft_s for row in rows],
        "credit_to_start_latency": [row.queue_s for row in rows],
        "effective_latency": [row.latency_s for row in rows],
    }


def _config(served: Served) -> dict | None:
    """None for arrivals that AIPerf has no phase for; its model refuses a configuration without one."""
    arrival, requests = served.workload.get("arrival") or {}, served.workload["num_requests"]
    kind = _PHASES.get(arrival.get("kind"))
    if kind is None:
        return None
    cap = requests if arrival["kind"] == "all_at_once" else None
    extra = {"concurrency": served.max_in_flight or cap, "rate": served.rate_per_s, "smoothness": arrival.get("burstiness")}
    phase = {"name": "profiling", "kind": "profiling", "type": kind, "requests": requests}
    lengths = {"isl": {"mean": served.mean_tokens("prompt_tokens")}, "osl": {"mean": served.mean_tokens("output_tokens")}}
    return {
        "models": {"items": [{"name": served.record["model"]}]},
        "endpoint": {"urls": [served.record["backend"]], "type": "completions", "streaming": True},
        "datasets": [{"name": "main", "type": "synthetic", "entries": requests, "prompts": lengths}],
        "phases": [phase | {key: value for key, value in extra.items() if value is not None}],
    }


def _errors(served: Served) -> list[dict]:
    details = {"type": "Failed", "message": "failed or never sent; the run's record says why"}
    return [{"error_details": details, "count": served.num_failed}] if served.num_failed else []


def _times(served: Served) -> dict[str, str]:
    """UTC without a zone: AIPerf's own have none."""
    start = datetime.fromisoformat(served.record["started_utc"].replace("Z", ""))
    end = start + timedelta(seconds=served.duration_s)
    return {"start_time": start.isoformat(), "end_time": end.isoformat()}


def _one(unit: str, value: float | None) -> dict | None:
    return None if value is None else {"unit": unit, "avg": float(value)}


def _in_ms(values_s: Sequence[float]) -> list[float]:
    return [1e3 * value for value in values_s]


def _from_metrics(served: Served, family: str) -> dict | None:
    """TTFT and the end-to-end latency of an open loop count from another time than AIPerf's, so they are left out."""
    is_closed = (served.workload.get("arrival") or {}).get("kind") == "closed"
    found = {field: served.metric(f"{statistic}_{family}_ms") for field, statistic in _FROM_METRICS.items()}
    if found["avg"] is None or (family in ("ttft", "e2el") and not is_closed):
        return None
    return {"unit": "ms"} | {field: value for field, value in found.items() if value is not None}


def _block(unit: str, values: Sequence[float]) -> dict | None:
    found = distribution(values)
    if not found:
        return None
    names = [name for name in (*(f"p{p}" for p in PERCENTILES), "min", "max") if name in found]
    shown = {"avg": found["mean"]} | {name: found[name] for name in names}
    return {"unit": unit, **shown, "std": found["std_population"], "count": len(values), "sum": float(sum(values))}
