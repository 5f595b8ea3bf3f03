"""Run folders with chosen numbers, for tests of comparison and gate: as `harness run` writes them, nothing measured.

In: values a metric and repeat. Out: a folder. `cell` and `run_info` give the parts that tests change.
"""

import json
from pathlib import Path

HOST = {"host": "box", "cpu": {"name": "AMD EPYC", "num_cores": 2, "memory_bytes": 24 * 2**30}, "gpus": [], "driver": None}
WORKLOAD = {
    "name": "single",
    "kind": "requests",
    "prompt_tokens": 32,
    "output_tokens": 32,
    "num_requests": 4,
    "arrival": {"kind": "closed", "concurrency": 1},
}
HELDOUT = {"name": "heldout", "kind": "heldout", "window_tokens": 256, "max_tokens": 2048, "kl_tokens": 256, "batch_windows": 8}
UNITS = {"output_throughput": "tokens/s", "request_throughput": "requests/s", "perplexity": "1"}
STEADY = (1.0, 1.002, 0.998, 1.001, 0.999, 1.003, 0.997, 1.0015, 0.9985, 1.0005)
"""Ten repeats that vary as little as a quiet machine's."""
EXPERTS = {
    "num_experts": 8,
    "top_k": 2,
    "phase": "decode",
    "layers": [{"layer": i, "active_per_step": 2.0, "max_over_mean": 1.2 + 0.1 * i} for i in range(5)],
    "cache": [],
}


def unit(name: str) -> str:
    return UNITS.get(name) or ("bytes" if name.endswith("_bytes") else "ms")


def repeats(median: float, shape=STEADY) -> list[float]:
    """Ten repeats around a median."""
    return [median * factor for factor in shape]


def timed(slower: float = 1.0, shape=STEADY) -> dict[str, list[float]]:
    """The default primary metrics, with times multiplied by `slower`."""
    return {
        "output_throughput": repeats(100 / slower, shape),
        "median_ttft_ms": repeats(20 * slower, shape),
        "median_itl_ms": repeats(5 * slower, shape),
    }


def record(
    values: dict[str, float | None],
    *,
    repeat: int = 0,
    workload: dict = WORKLOAD,
    precision: str = "nvfp4",
    state: str = "VALID",
    status: str = "ok",
    chosen: str = "triton-grouped",
    weights_sha256: str = "ab" * 32,
    target: dict | None = None,
    extra_metrics: dict | None = None,
) -> dict:
    """One record; a value of None is null with a reason."""
    identity = f"{precision}-search-a16" if precision != "bf16" else "bf16-a16"
    metrics = {
        name: {"value": value, "unit": unit(name), "n": 4, "reason": None if value is not None else "the clock stood still"}
        for name, value in values.items()
    }
    choice = [{"op": op, "chosen": chosen, "is_reference": chosen == "reference", "refused": []} for op in ("route", "experts")]
    target = target or {"kind": "h100", "name": "NVIDIA H100"}
    failed = {"kind": "killed", "message": "worker ended by SIGKILL"} if status != "ok" else None
    return {
        "schema_version": 1,
        "cell_id": f"pocket-mixtral/native/{identity}/{workload['name']}/{target['kind']}",
        "model": "pocket-mixtral",
        "backend": "native",
        "precision": {
            "id": identity,
            "label": identity,
            "weights": precision,
            "method": "none" if precision == "bf16" else "search",
            "activations": "bf16",
        },
        "workload": workload,
        "target": target,
        "repeat": repeat,
        "status": status,
        "error": failed,
        "started_utc": "2026-01-31T12:00:00Z",
        "duration_s": 1.0,
        "verdict": {"state": state, "reasons": [] if state == "VALID" else [{"code": "wrong_output", "message": "wrong"}]},
        "implementation": choice,
        "check": None,
        "weights": {"sha256": weights_sha256, "source": "trained"},
        "metrics": {} if status != "ok" else metrics | (extra_metrics or {}),
        "experts": EXPERTS if workload["kind"] == "requests" else None,
        "samples": {},
    }


def records(values: dict[str, list[float]], **options) -> list[dict]:
    """A record a repeat."""
    count = max(len(numbers) for numbers in values.values())
    rows = [{name: numbers[i] for name, numbers in values.items() if i < len(numbers)} for i in range(count)]
    return [record(row, repeat=i, **options) for i, row in enumerate(rows)]


def heldout(perplexity: float, **options) -> dict:
    """The quality record of a precision."""
    return record({"perplexity": perplexity, "weight_bytes": 5_250_000}, workload=HELDOUT, **options)


def write_run(folder: Path, rows: list[dict], *, gates: dict | None = None, host: dict = HOST, planned=None, **info) -> Path:
    """A run's folder of these records; the plan holds their cells unless `planned` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = {row["cell_id"]: row["workload"] for row in rows}
    repeats_planned = max((row["repeat"] + 1 for row in rows if row["workload"]["kind"] == "requests"), default=1)
    content = {
        "schema_version": 1,
        "run_id": folder.name,
        "scenario_name": "gate",
        "scenario": {"name": "gate", "repeats": repeats_planned, "seed": 0, "gates": gates},
        "scenario_sha256": "5c" * 32,
        "started_utc": "2026-01-31T12:00:00Z",
        "finished_utc": "2026-01-31T12:01:00Z",
        "provenance": {"git_commit": "1" * 40, "libraries": {"torch": "2.13.0"}, **host},
        "plan": {"cells": planned or [{"cell_id": key, "workload": value} for key, value in cells.items()], "dropped": []},
    } | info
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
