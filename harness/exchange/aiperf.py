"""AIPerf's profile_export_aiperf.json, written and read.

Fields: aiperf/common/models/export_models.py of ai-dynamo/aiperf. A metric is a block {unit, avg, min, max, std, p1 ... p99};
what is unset is left out. AIPerf's `inter_token_latency` is one value a request, which is our TPOT; the pooled gaps that
we call ITL are its `inter_chunk_latency`.
"""

from collections.abc import Sequence
from pathlib import Path

from harness.exchange.errors import ExchangeError
from harness.exchange.foreign import ForeignResult, number, read_json
from harness.exchange.served import Served

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_LATENCIES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "itl",
    "request_latency": "e2el",
}
_RATES = {"request_throughput": "request_throughput", "output_token_throughput": "output_throughput"}
_TO_MS = {"ms": 1.0, "sec": 1e3, "s": 1e3, "us": 1e-3, "ns": 1e-6}
_FROM_BLOCK = {"mean": "avg", "median": "p50", "std": "std", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}


def export(served: Served) -> dict:
    """One repeat as AIPerf writes it; distributions come from the samples, or from the metrics where those are gone."""
    blocks = {"request_throughput": _one("requests/sec", served.metric("request_throughput"))}
    blocks |= {name: _latency(served, name, family) for name, family in _LATENCIES.items()}
    blocks |= {
        "request_count": _one("requests", served.num_completed),
        "error_request_count": _one("requests", served.num_failed),
        "output_token_throughput": _one("tokens/sec", served.metric("output_throughput")),
        "output_sequence_length": _lengths(served, "output_tokens"),
        "input_sequence_length": _lengths(served, "prompt_tokens"),
        "total_osl": _one("tokens", served.output_tokens),
        "total_isl": _one("tokens", served.input_tokens),
        "benchmark_duration": _one("sec", served.duration_s),
    }
    return {name: block for name, block in blocks.items() if block is not None} | {
        "input_config": _config(served),
        "was_cancelled": False,
        "error_summary": [],
        "start_time": served.record["started_utc"],
    }


def _config(served: Served) -> dict:
    load = {
        "request_count": served.workload["num_requests"],
        "concurrency": served.concurrency,
        "request_rate": served.rate_per_s,
    }
    return {
        "endpoint": {"model_names": [served.record["model"]]},
        "loadgen": {key: value for key, value in load.items() if value is not None},
        "harness": {"run_id": served.run.run_id, "cell_id": served.record["cell_id"], "repeat": served.record["repeat"]},
    }


def _one(unit: str, value: float | None) -> dict | None:
    return None if value is None else {"unit": unit, "avg": value}


def _latency(served: Served, name: str, family: str) -> dict | None:
    if served.requests is not None:
        values = {
            "ttft": [row.ttft_s for row in served.requests],
            "tpot": [row.tpot_s for row in served.requests if row.tpot_s is not None],
            "itl": [gap for row in served.requests for gap in row.gaps_s],
            "e2el": [row.latency_s for row in served.requests],
        }[family]
        return _distribution("ms", [1e3 * value for value in values])
    found = {field: served.metric(f"{statistic}_{family}_ms") for statistic, field in _FROM_BLOCK.items()}
    return None if found["avg"] is None else {"unit": "ms"} | {key: value for key, value in found.items() if value is not None}


def _lengths(served: Served, field: str) -> dict | None:
    if served.requests is not None:
        return _distribution("tokens", [getattr(row, field) for row in served.requests])
    total = served.output_tokens if field == "output_tokens" else served.input_tokens
    return _one("tokens", total / served.num_completed)


def _distribution(unit: str, values: Sequence[float]) -> dict | None:
    import numpy as np

    if not values:
        return None
    found = {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
    std = {"std": float(np.std(values, ddof=1))} if len(values) > 1 else {}
    return {"unit": unit, "avg": float(np.mean(values)), "min": float(min(values)), "max": float(max(values))} | found | std


def read(path: Path) -> list[ForeignResult]:
    """The result of a file; ExchangeError naming what is missing."""
    (data,) = read_json(path)[:1]
    completed = int(_average(path, data, "request_count"))
    if completed < 1:
        raise ExchangeError(f"{path}: request_count: no request was completed, so there is nothing to import")
    metrics = {ours: _average(path, data, theirs) for theirs, ours in _RATES.items()}
    for theirs, family in _LATENCIES.items():
        metrics |= _latency_metrics(data.get(theirs), family)
    prompt = _average(path, data, "input_sequence_length")
    output = _average(path, data, "output_sequence_length")
    metrics["total_token_throughput"] = metrics["request_throughput"] * (prompt + output)
    config = data.get("input_config") or {}
    errors = data.get("error_request_count")
    return [
        ForeignResult(
            tool="aiperf",
            tool_backend=str((config.get("endpoint") or {}).get("type") or "openai"),
            model=_model(config),
            started_utc=str(data["start_time"])[:19] + "Z" if data.get("start_time") else None,
            duration_s=completed / metrics["request_throughput"],
            num_completed=completed,
            num_failed=int(errors["avg"]) if isinstance(errors, dict) and errors.get("avg") else 0,
            prompt_tokens=prompt,
            output_tokens=output,
            arrival=_arrival(config.get("loadgen") or {}),
            metrics=metrics,
            other={"input_config": config},
        )
    ]


def _average(path: Path, data: dict, name: str) -> float:
    block = data.get(name)
    if not isinstance(block, dict):
        raise ExchangeError(f"{path}: {name}: missing; is this an AIPerf profile_export_aiperf.json?")
    return number(path, {f"{name}.avg": block.get("avg")}, f"{name}.avg")


def _latency_metrics(block: object, family: str) -> dict[str, float]:
    """Statistics in ms; a percentile that AIPerf gives below our n is left for the reader of its own file."""
    if not isinstance(block, dict) or block.get("unit") not in _TO_MS:
        return {}
    scale = _TO_MS[block["unit"]]
    found = {f"{ours}_{family}_ms": block.get(theirs) for ours, theirs in _FROM_BLOCK.items()}
    return {name: scale * float(value) for name, value in found.items() if isinstance(value, int | float)}


def _model(config: dict) -> str:
    names = (config.get("endpoint") or {}).get("model_names") or ["unknown"]
    return str(names[0])


def _arrival(load: dict) -> dict:
    if load.get("concurrency") is not None:
        return {"kind": "closed", "concurrency": load["concurrency"]}
    if load.get("request_rate") is not None:
        return {"kind": "poisson", "rate_per_s": load["request_rate"]}
    return {"kind": "all_at_once"}
