"""Benchmark Report v0.2, the report of llm-d-benchmark, written.

Fields and units: llmdbenchmark/analysis/benchmark_report/br_v0_2_json_schema.json of llm-d/llm-d-benchmark, which allows no
others. Latencies are in seconds, token latencies in s/token. What was not measured is left out.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from harness.exchange.distribution import distribution
from harness.exchange.served import Served

VERSION = "0.2"
_FROM_METRICS = {"mean": "mean", "stddev": "std", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES = (
    ("time_to_first_token", "ttft", "s"),
    ("time_per_output_token", "tpot", "s/token"),
    ("inter_token_latency", "itl", "s/token"),
    ("request_latency", "e2el", "s"),
)


def export(served: Served) -> dict:
    """One repeat as a report."""
    from harness import __version__

    tool = {"tool": "fp4moe-harness", "tool_version": __version__}
    return {
        "version": VERSION,
        "run": _run(served),
        "scenario": {"stack": [_engine(served, tool)], "load": _load(served, tool)},
        "results": {"request_performance": {"aggregate": _aggregate(served)}},
    }


def _run(served: Served) -> dict:
    start = datetime.fromisoformat(served.record["started_utc"].replace("Z", "+00:00"))
    seconds = served.record.get("duration_s") or served.duration_s
    identity = f"{served.run.run_id}/{served.name}"
    return {
        "uid": _digest(identity),
        "eid": _digest(served.run.run_id),
        "time": {
            "start": start.isoformat(),
            "end": (start + timedelta(seconds=seconds)).isoformat(),
            "duration": f"PT{seconds:.6f}S",
        },
        "description": f"{served.run.scenario_name}: {served.record['cell_id']}, repeat {served.record['repeat']}",
        "keywords": [served.record["precision"]["label"], served.workload["name"]],
    }


def _engine(served: Served, tool: dict) -> dict:
    config = {"precision": served.record["precision"], "implementation": served.record.get("implementation")}
    config |= {"weights": served.record.get("weights"), "run_id": served.run.run_id}
    accelerator = {"model": served.record["target"]["name"], "count": 1, "parallelism": {"tp": 1, "dp": 1, "ep": 1, "pp": 1}}
    return {
        "metadata": {"label": served.record["backend"], "cfg_id": _digest(json.dumps(config, sort_keys=True))},
        "standardized": {
            "kind": "inference_engine",
            **tool,
            "role": "replica",
            "replicas": 1,
            "model": {"name": served.record["model"]},
            "accelerator": accelerator,
        },
        "native": {"config": config},
    }


def _load(served: Served, tool: dict) -> dict:
    spec = served.workload
    standardized = {
        **tool,
        "source": _source(served),
        "input_seq_len": _length(served, "prompt_tokens"),
        "output_seq_len": _length(served, "output_tokens"),
    }
    load = {"rate_qps": served.rate_per_s, "concurrency": served.max_in_flight}
    standardized |= {key: value for key, value in load.items() if value is not None}
    return {
        "metadata": {"cfg_id": _digest(json.dumps(spec, sort_keys=True))},
        "standardized": standardized,
        "native": {"config": spec},
    }


def _source(served: Served) -> str:
    """A trained model is given text and random weights random tokens; a server's model does not say."""
    if (served.workload.get("source") or {}).get("kind") == "sharegpt":
        return "sampled"
    weights = (served.record.get("weights") or {}).get("source")
    return {"trained": "sampled", "random": "random"}.get(weights, "unknown")


def _length(served: Served, field: str) -> dict:
    """A drawn length has no one value: its mean as served."""
    is_fixed = isinstance(served.workload[field], int)
    return {"distribution": "fixed" if is_fixed else "other", "value": served.mean_tokens(field)}


def _aggregate(served: Served) -> dict:
    requests = {"total": served.num_completed + served.num_failed, "failures": served.num_failed}
    requests |= _known({"input_length": _lengths(served, "prompt_tokens"), "output_length": _lengths(served, "output_tokens")})
    rates = {
        "input_token_rate": ("tokens/s", served.input_tokens / served.duration_s),
        "output_token_rate": ("tokens/s", served.metric("output_throughput")),
        "total_token_rate": ("tokens/s", served.metric("total_token_throughput")),
        "request_rate": ("queries/s", served.metric("request_throughput")),
    }
    return {
        "requests": requests,
        "latency": _known({name: _latency(served, family, units) for name, family, units in _LATENCIES}),
        "throughput": {name: {"units": units, "mean": value} for name, (units, value) in rates.items() if value is not None},
    }


def _latency(served: Served, family: str, units: str) -> dict | None:
    if served.requests is not None:
        return _statistics(units, served.latencies_s(family))
    found = {field: served.metric(f"{statistic}_{family}_ms") for field, statistic in _FROM_METRICS.items()}
    if found["mean"] is None:
        return None
    return {"units": units} | {field: value / 1e3 for field, value in found.items() if value is not None}


def _lengths(served: Served, field: str) -> dict | None:
    return None if served.requests is None else _statistics("count", [getattr(row, field) for row in served.requests])


def _statistics(units: str, values: Sequence[float]) -> dict | None:
    found = distribution(values)
    if not found:
        return None
    del found["std_population"]
    return {"units": units} | {"stddev" if name == "std" else name: value for name, value in found.items()}


def _known(items: dict) -> dict:
    return {name: item for name, item in items.items() if item is not None}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
