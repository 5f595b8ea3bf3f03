"""AIPerf's profile_export_aiperf.json, read, with the requests of the profile_export.jsonl beside it (PREFIX.json and
PREFIX.jsonl with --profile-export-prefix).

Form: schema 1.4 of aiperf 0.13.0 (`models`, `phases`); `endpoint.model_names` and `loadgen` of earlier versions are read too.
Figures are in the file's own unit, which is converted; a unit that is not known is an error. Its clock has no zone and is
taken as UTC.
"""

from pathlib import Path

from harness.collect.latency import RequestTimes
from harness.exchange.aiperf import FAMILIES
from harness.exchange.definitions import gaps_differ, open_loop_differs, window_differs
from harness.exchange.errors import ExchangeError
from harness.exchange.foreign import ForeignResult, number, read_json

TOOL = "aiperf"
NOT_STREAMED = "not in aiperf's file, which has it for streamed answers only (--streaming)"
_RATES = {
    "request_throughput": "request_throughput",
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_token_throughput",
}
_TO_MS = {"ms": 1.0, "sec": 1e3, "s": 1e3, "us": 1e-3, "ns": 1e-6}
_FROM_BLOCK = {"mean": "avg", "median": "p50", "std": "std", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_RATE_PHASES = ("poisson", "gamma", "constant")
MS = 1e6


def read(path: Path) -> list[ForeignResult]:
    """The result of a file; ExchangeError naming what is missing."""
    (data,) = read_json(path)[:1]
    completed = int(_average(path, data, "request_count"))
    if completed < 1:
        raise ExchangeError(f"{path}: request_count: no request was completed, so there is nothing to import")
    config, (prompt, output) = data.get("input_config") or {}, _lengths(path, data)
    metrics, counts = _rates(path, data, prompt + output), {}
    for name, family in FAMILIES.items():
        metrics |= _latency_metrics(path, data.get(name), family)
        counts |= _count(data.get(name), family)
    window_s, arrival = completed / metrics["request_throughput"], _arrival(config)
    differs = open_loop_differs(TOOL, arrival)
    differs |= gaps_differ(TOOL, counts.get("itl"), output * completed, completed) if "mean_itl_ms" in metrics else {}
    differs |= window_differs(TOOL, window_s, _optional(data, "benchmark_duration")) | _own_count(config, data)
    return [
        ForeignResult(
            tool=TOOL,
            tool_version=data.get("aiperf_version"),
            tool_backend=str((config.get("endpoint") or {}).get("type") or "openai"),
            model=_model(config),
            started_utc=str(data["start_time"])[:19] + "Z" if data.get("start_time") else None,
            duration_s=window_s,
            num_completed=completed,
            num_failed=int(_optional(data, "error_request_count") or 0),
            prompt_tokens=prompt,
            output_tokens=output,
            arrival=arrival,
            metrics=metrics,
            counts=counts,
            absent={} if "mean_ttft_ms" in metrics else dict.fromkeys(("ttft", "tpot", "itl"), NOT_STREAMED),
            differs=differs,
            requests=_requests(path),
            other={name: data.get(name) for name in ("schema_version", "input_config", "error_summary")},
        )
    ]


def _lengths(path: Path, data: dict) -> tuple[float, float]:
    """Mean prompt and output tokens of a request."""
    return _average(path, data, "input_sequence_length"), _average(path, data, "output_sequence_length")


def _count(block: object, family: str) -> dict[str, int]:
    return {family: block["count"]} if isinstance(block, dict) and block.get("count") else {}


def _optional(data: dict, name: str) -> float | None:
    block = data.get(name)
    return block.get("avg") if isinstance(block, dict) else None


def _average(path: Path, data: dict, name: str) -> float:
    block = data.get(name)
    if not isinstance(block, dict):
        raise ExchangeError(f"{path}: {name}: missing; is this an AIPerf profile_export_aiperf.json?")
    return number(path, {f"{name}.avg": block.get("avg")}, f"{name}.avg")


def _rates(path: Path, data: dict, tokens_per_request: float) -> dict[str, float]:
    """Versions before 0.13 have no total; it is then requests a second by mean tokens a request."""
    found = {ours: _average(path, data, theirs) for theirs, ours in _RATES.items() if theirs in data or "total" not in theirs}
    return found | (
        {}
        if "total_token_throughput" in found
        else {"total_token_throughput": found["request_throughput"] * tokens_per_request}
    )


def _latency_metrics(path: Path, block: object, family: str) -> dict[str, float]:
    """Statistics in ms."""
    if not isinstance(block, dict):
        return {}
    if block.get("unit") not in _TO_MS:
        raise ExchangeError(f"{path}: {family}: unit must be one of {', '.join(_TO_MS)} (got {block.get('unit')!r})")
    scale = _TO_MS[block["unit"]]
    found = {f"{ours}_{family}_ms": block.get(theirs) for ours, theirs in _FROM_BLOCK.items()}
    return {name: scale * float(value) for name, value in found.items() if isinstance(value, int | float)}


def _model(config: dict) -> str:
    items = (config.get("models") or {}).get("items") or [{}]
    names = (config.get("endpoint") or {}).get("model_names") or ["unknown"]
    return str(items[0].get("name") or names[0])


def _arrival(config: dict) -> dict:
    """The profiling phase; several, or one that is not a load as a scenario can ask for, is named and not guessed at."""
    phases = [phase for phase in config.get("phases") or () if phase.get("kind", "profiling") == "profiling"]
    if not phases:
        return _older_arrival(config.get("loadgen") or {})
    if len(phases) > 1:
        return {"kind": "several-phases"}
    (phase,) = phases
    cap = {} if phase.get("concurrency") is None else {"max_concurrency": phase["concurrency"]}
    if phase["type"] == "concurrency":
        return {"kind": "closed", "concurrency": phase.get("concurrency", 1)}
    if phase["type"] not in _RATE_PHASES:
        return {"kind": str(phase["type"])}
    shape = {"burstiness": phase["smoothness"]} if phase.get("smoothness") is not None else {}
    return {"kind": phase["type"], "rate_per_s": phase["rate"], **shape, **cap}


def _older_arrival(load: dict) -> dict:
    rate, concurrency = load.get("request_rate"), load.get("concurrency")
    if rate is not None:
        return {"kind": "poisson", "rate_per_s": rate} | ({"max_concurrency": concurrency} if concurrency else {})
    return {"kind": "all_at_once"} if concurrency is None else {"kind": "closed", "concurrency": concurrency}


def _own_count(config: dict, data: dict) -> dict[str, str]:
    """AIPerf counts tokens with a tokenizer of its own unless it is told to take the server's."""
    is_servers = (config.get("endpoint") or {}).get("use_server_token_count")
    said = _optional(data, "total_usage_completion_tokens")
    if is_servers or (said is not None and said == _optional(data, "total_osl")):
        return {}
    reason = f"{TOOL} counted tokens with its own tokenizer, not the server (--use-server-token-count)"
    return {"rates": reason, "tpot": reason}


def _requests(path: Path) -> tuple[RequestTimes, ...]:
    """Answered requests of the profiling phase, from the file beside; none where it is not there or has no times."""
    beside = path.with_name(path.name.removesuffix(".json").removesuffix("_aiperf") + ".jsonl")
    if not beside.is_file():
        return ()
    rows = [row for row in read_json(beside) if not row.get("error") and row["metadata"].get("benchmark_phase") == "profiling"]
    return tuple(_times(row) for row in rows if "time_to_first_token" in row["metrics"])


def _times(row: dict) -> RequestTimes:
    metadata, metrics = row["metadata"], row["metrics"]
    start_ns = metadata["request_start_ns"]
    times = [start_ns + round(MS * _value_ms(metrics["time_to_first_token"]))]
    gaps = metrics.get("inter_chunk_latency")
    for gap in gaps["value"] if gaps else ():
        times.append(times[-1] + round(MS * _TO_MS[gaps["unit"]] * gap))
    output = int(metrics["output_sequence_length"]["value"])
    prompt = int(metrics["input_sequence_length"]["value"])
    return RequestTimes(metadata["x_request_id"], start_ns, start_ns, tuple(times), prompt, output, output)


def _value_ms(entry: dict) -> float:
    return _TO_MS[entry["unit"]] * entry["value"]
