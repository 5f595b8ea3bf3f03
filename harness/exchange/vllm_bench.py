"""The result JSON of `vllm bench serve --save-result`, written and read.

Keys and units: vllm/benchmarks/serve.py of vLLM (ttfts, itls, latencies and start_times in seconds, metrics in ms).
Our p99 is null below 100 samples; the key is then left out, where vLLM would print the maximum.
"""

from datetime import UTC, datetime
from pathlib import Path

from harness.collect.latency import RequestTimes
from harness.exchange.foreign import ForeignResult, number, read_json
from harness.exchange.served import Served
from harness.metrics import METRICS

NS = 1e9
_FAMILIES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "std", "p50", "p90", "p95", "p99")
_RATES = ("request_throughput", "output_throughput", "total_token_throughput")
_REQUIRED = ("duration", "completed", "total_input_tokens", "total_output_tokens", *_RATES)


def export(served: Served) -> dict:
    """One repeat as `--save-result --save-detailed` writes it; without the arrays where the samples are gone."""
    head = {
        "date": _date(served.record["started_utc"]),
        "endpoint_type": served.record["backend"],
        "backend": served.record["backend"],
        "label": served.record["precision"]["label"],
        "model_id": served.record["model"],
        "tokenizer_id": served.record["model"],
        "num_prompts": served.workload["num_requests"],
        "request_rate": served.rate_per_s or "inf",
        "burstiness": 1.0,
        "max_concurrency": served.concurrency,
        "harness_run_id": served.run.run_id,
        "harness_cell_id": served.record["cell_id"],
        "harness_repeat": served.record["repeat"],
        "harness_weights_sha256": (served.record.get("weights") or {}).get("sha256"),
    }
    totals = {
        "duration": served.duration_s,
        "completed": served.num_completed,
        "failed": served.num_failed,
        "total_input_tokens": served.input_tokens,
        "total_output_tokens": served.output_tokens,
        "request_goodput": None,
    }
    names = [*_RATES, *(f"{statistic}_{family}_ms" for family in _FAMILIES for statistic in _STATISTICS)]
    metrics = {name: served.metric(name) for name in names if served.metric(name) is not None}
    return head | totals | metrics | _arrays(served)


def _arrays(served: Served) -> dict:
    if served.requests is None:
        return {}
    return {
        "input_lens": [row.prompt_tokens for row in served.requests],
        "output_lens": [row.output_tokens for row in served.requests],
        "ttfts": [row.ttft_s for row in served.requests],
        "itls": [list(row.gaps_s) for row in served.requests],
        "latencies": [row.latency_s for row in served.requests],
        "start_times": [row.start_s for row in served.requests],
        "errors": ["" for _ in served.requests],
    }


def _date(started_utc: str) -> str:
    return datetime.fromisoformat(started_utc.replace("Z", "+00:00")).strftime("%Y%m%d-%H%M%S")


def read(path: Path) -> list[ForeignResult]:
    """Every result of a file; ExchangeError naming what is missing."""
    return [_result(path, data) for data in read_json(path)]


def _result(path: Path, data: dict) -> ForeignResult:
    values = {key: number(path, data, key) for key in _REQUIRED}
    completed = int(values["completed"])
    number(path, data, "completed", minimum=1)
    metrics = {
        key: float(value)
        for key, value in data.items()
        if key in METRICS and isinstance(value, int | float) and not isinstance(value, bool)
    }
    arrays = ("ttfts", "itls", "input_lens", "output_lens")
    arrays_there = all(isinstance(data.get(key), list) for key in arrays)
    known = {*metrics, *_REQUIRED, *arrays, "start_times", "latencies", "generated_texts", "errors", "queue_times"}
    return ForeignResult(
        tool="vllm-bench",
        tool_backend=str(data.get("backend") or data.get("endpoint_type") or "vllm"),
        model=str(data.get("model_id") or "unknown"),
        started_utc=_started(data.get("date")),
        duration_s=values["duration"],
        num_completed=completed,
        num_failed=int(data.get("failed") or 0),
        prompt_tokens=values["total_input_tokens"] / completed,
        output_tokens=values["total_output_tokens"] / completed,
        arrival=_arrival(data),
        metrics=metrics,
        requests=_requests(data) if arrays_there else (),
        other={key: value for key, value in data.items() if key not in known},
    )


def _arrival(data: dict) -> dict:
    rate, concurrency = data.get("request_rate"), data.get("max_concurrency")
    if concurrency is not None:
        return {"kind": "closed", "concurrency": concurrency}
    if isinstance(rate, int | float):
        return {"kind": "poisson", "rate_per_s": rate}
    return {"kind": "all_at_once"}


def _started(date: object) -> str | None:
    """`20260131-120000` as ISO; the clock's zone is not in the file, so none is claimed but UTC's form."""
    try:
        return datetime.strptime(str(date), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None


def _requests(data: dict) -> tuple[RequestTimes, ...]:
    starts = data.get("start_times") or [0.0] * len(data["ttfts"])
    rows = zip(starts, data["ttfts"], data["itls"], data["input_lens"], data["output_lens"], strict=False)
    return tuple(_times(index, *row) for index, row in enumerate(rows) if row[4])


def _times(index: int, start_s: float, ttft_s: float, gaps_s: list[float], prompt: int, output: int) -> RequestTimes:
    start_ns = int(start_s * NS)
    times = [start_ns + int(ttft_s * NS)]
    for gap in gaps_s:
        times.append(times[-1] + int(gap * NS))
    return RequestTimes(f"request-{index}", start_ns, start_ns, tuple(times), prompt, output)
