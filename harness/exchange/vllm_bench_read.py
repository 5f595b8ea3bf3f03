"""The result JSON of `vllm bench serve --save-result`, read; with the requests where --save-detailed kept them.

Keys and units: vllm/benchmarks/serve.py of vLLM 0.32.0 (arrays in seconds, metrics in ms). Its ITL pools the gaps between
chunks, a closing one without text included. The file does not say vLLM's version.
"""

from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

from harness.collect.latency import RequestTimes
from harness.exchange.definitions import RATES, gaps_differ, open_loop_differs, window_differs
from harness.exchange.foreign import ForeignResult, number, read_json
from harness.metrics import METRICS

NS = 1e9
TOOL = "vllm-bench"
NO_E2EL = "not in vllm-bench's file, whose default leaves it out (--percentile-metrics ttft,tpot,itl,e2el)"
_REQUIRED = ("duration", "completed", "total_input_tokens", "total_output_tokens", *RATES)
_ARRAYS = ("ttfts", "itls", "input_lens", "output_lens")


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
    arrival, requests = _arrival(data), _requests(data)
    counts = _counts(data, requests, completed)
    differs = gaps_differ(TOOL, counts.get("itl"), values["total_output_tokens"], completed)
    known = {*metrics, *_REQUIRED, *_ARRAYS, "start_times", "latencies", "generated_texts", "errors", "queue_times"}
    return ForeignResult(
        tool=TOOL,
        tool_version=None,
        tool_backend=str(data.get("backend") or data.get("endpoint_type") or "vllm"),
        model=str(data.get("model_id") or "unknown"),
        started_utc=_started(data.get("date"), values["duration"]),
        duration_s=values["duration"],
        num_completed=completed,
        num_failed=int(data.get("failed") or 0),
        prompt_tokens=values["total_input_tokens"] / completed,
        output_tokens=values["total_output_tokens"] / completed,
        arrival=arrival,
        metrics=metrics,
        counts=counts,
        absent={} if "mean_e2el_ms" in metrics else {"e2el": NO_E2EL},
        differs=differs | open_loop_differs(TOOL, arrival) | window_differs(TOOL, values["duration"], _wall_s(requests)),
        requests=requests,
        other={key: value for key, value in data.items() if key not in known},
    )


def _counts(data: dict, requests: tuple[RequestTimes, ...], completed: int) -> dict[str, int]:
    """Samples of each family; those of TPOT and ITL are known from the arrays alone."""
    found = {"ttft": completed, "e2el": completed}
    if not requests:
        return found
    gaps = sum(len(itl) for itl, output in zip(data["itls"], data["output_lens"], strict=True) if output)
    return found | {"tpot": sum(1 for row in requests if row.output_tokens > 1), "itl": gaps}


def _wall_s(requests: tuple[RequestTimes, ...]) -> float | None:
    if not requests:
        return None
    return (max(row.token_times_ns[-1] for row in requests) - min(row.submitted_ns for row in requests)) / NS


def _arrival(data: dict) -> dict:
    """`max_concurrency` beside a rate is a cap on an open loop, not a closed one."""
    rate, cap = data.get("request_rate"), data.get("max_concurrency")
    limit = {} if cap is None else {"max_concurrency": cap}
    if data.get("ramp_up_strategy") == "linear":
        ends = {"from_rate_per_s": data.get("ramp_up_start_rps"), "to_rate_per_s": data.get("ramp_up_end_rps")}
        return {"kind": "ramp"} | ends | limit
    if data.get("ramp_up_strategy") or (rate is None and "request_rate" in data):
        return {"kind": str(data.get("ramp_up_strategy") or "not said")} | limit
    if not isinstance(rate, int | float):
        return {"kind": "all_at_once"} if cap is None else {"kind": "closed", "concurrency": cap}
    burstiness = data.get("burstiness", 1.0)
    shapes = {1.0: {"kind": "poisson"}, None: {"kind": "constant"}}
    return shapes.get(burstiness, {"kind": "gamma", "burstiness": burstiness}) | {"rate_per_s": rate} | limit


def _started(date: object, duration_s: float) -> str | None:
    """`20260131-120000` is the end of the run in the client's local time; its zone is not in the file and taken as UTC."""
    try:
        end = datetime.strptime(str(date), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (end - timedelta(seconds=duration_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _requests(data: dict) -> tuple[RequestTimes, ...]:
    """Answered requests (a failed one has no output length); none without the arrays or without start times."""
    if not all(isinstance(data.get(key), list) for key in (*_ARRAYS, "start_times")):
        return ()
    rows = zip(data["start_times"], *(data[key] for key in _ARRAYS), strict=True)
    return tuple(_times(index, *row) for index, row in enumerate(rows) if row[4])


def _times(index: int, start_s: float, ttft_s: float, gaps_s: list[float], prompt: int, output: int) -> RequestTimes:
    start_ns = round(start_s * NS)
    times = accumulate((round(gap * NS) for gap in gaps_s), initial=start_ns + round(ttft_s * NS))
    return RequestTimes(f"request-{index}", start_ns, start_ns, tuple(times), prompt, output, output)
