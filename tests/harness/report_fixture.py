"""Builds run folders for the report's tests: run.json, records.jsonl, request samples, as harness writes.

In: a folder and a Spec of what the run should contain. Out: the run folder; figures: report_figures.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

import report_figures as figures

CPU = {"kind": "cpu", "name": "Intel(R) Xeon(R) Processor @ 2.60GHz"}
A100 = {"kind": "a100", "name": "NVIDIA A100-SXM4-80GB"}
RTX_5090 = {"kind": "rtx-5090", "name": "NVIDIA GeForce RTX 5090"}
CRASH = "worker ended with signal 9 <killed> after 3.1 s & no output"
WARNING = {"code": "send_lag", "message": "3 of 8 requests were sent more than 20 ms late"}
WRONG = {"code": "wrong_output", "message": "relative error 0.3 against float64, bound 0.01"}


@dataclass(frozen=True, slots=True)
class Spec:
    """What a run contains. `speed` is BF16's output tokens/s; `speedup` is that of the 4-bit formats over it.

    `failing` names "precision/workload" pairs whose last repeat fails, "*" for all repeats of all cells;
    `invalid` names pairs whose repeats are INVALID. Single-request cells carry a warning.
    """

    precisions: tuple[str, ...] = ("bf16", "nvfp4", "mxfp4")
    workloads: tuple[str, ...] = ("single", "batch8", "heldout")
    target: dict | None = None
    num_repeats: int = 3
    speed: float = 410.0
    speedup: float = 0.71
    weights_source: str = "trained"
    failing: tuple[str, ...] = ("mxfp4/batch8",)
    invalid: tuple[str, ...] = ()
    run_id: str = "20260101T120000Z-smoke-1a2b3c"
    scenario_sha256: str = "5c" * 32

    @property
    def device(self) -> dict:
        return self.target or CPU

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(precision, workload) pairs; random weights have no heldout cell."""
        kept = [name for name in self.workloads if name != "heldout" or self.weights_source == "trained"]
        return [(precision, workload) for precision in self.precisions for workload in kept]


def make_run(folder: Path, spec: Spec | None = None) -> Path:
    """Write a run folder named after the run id below `folder` and return it."""
    spec = spec or Spec()
    run = folder / spec.run_id
    (run / "samples").mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps(_info(spec)), encoding="utf-8")
    records = [
        _record(run, spec, *cell, repeat=repeat)
        for cell in spec.cells
        for repeat in range(1 if cell[1] == "heldout" else spec.num_repeats)
    ]
    lines = (json.dumps(record) + "\n" for record in records)
    (run / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    return run


def precision(weights: str) -> dict:
    """The precision block of a record, BF16 activations."""
    method = {"bf16": "none", "fp8": "absmax"}.get(weights, "search")
    return {
        "id": "bf16-a16" if weights == "bf16" else f"{weights}-{method}-a16",
        "label": f"{weights.upper()} x BF16 ({method})",
        "weights": weights,
        "method": method,
        "activations": "bf16",
    }


def _workload(name: str) -> dict:
    kind = "heldout" if name == "heldout" else "requests"
    return {"name": name, "kind": kind, **figures.REQUESTS.get(name, {})}


def _planned(spec: Spec, block: dict, workload: str, *, model: str = "pocket-mixtral") -> dict:
    return {
        "cell_id": f"{model}/native/{block['id']}/{workload}/{spec.device['kind']}",
        "model": model,
        "backend": "native",
        "precision": block,
        "workload": _workload(workload),
        "target": spec.device["kind"],
    }


def _info(spec: Spec) -> dict:
    four_bit = {"id": "nvfp4-search-a4", "label": "NVFP4 x NVFP4 (search)"}
    big = _planned(spec, precision("bf16"), "batch8", model="mixtral-8x7b")
    dropped = [
        _planned(spec, four_bit, "single") | {"reason": "needs sm_100 or newer; this machine has no GPU"},
        big | {"reason": "46.7 B parameters need a GPU with 93.4 GB free; this machine has no GPU"},
    ]
    if spec.weights_source == "random":
        reason = "random weights have no perplexity; give a checkpoint by `path` to measure quality"
        dropped += [_planned(spec, precision(w), "heldout") | {"reason": reason} for w in spec.precisions]
    planned = [_planned(spec, precision(weights), workload) for weights, workload in spec.cells]
    return {
        "schema_version": 1,
        "run_id": spec.run_id,
        "scenario_name": "smoke",
        "scenario": {"name": "smoke", "description": "An <invented> run", "repeats": spec.num_repeats},
        "scenario_sha256": spec.scenario_sha256,
        "started_utc": "2026-01-01T12:00:00Z",
        "finished_utc": "2026-01-01T12:14:00Z",
        "provenance": _provenance(spec),
        "plan": {"cells": planned, "dropped": dropped},
    }


def _provenance(spec: Spec) -> dict:
    has_gpu = spec.device["kind"] != "cpu"
    gpu = {"name": spec.device["name"], "capability": "sm_80", "memory_bytes": 80 * 10**9}
    return {
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "command_line": "harness run scenarios/smoke.yaml",
        "host": "bench-01",
        "os": "Linux 6.1",
        "python": "3.11.7",
        "cpu": {"name": CPU["name"], "num_cores": 2, "memory_bytes": 8 * 10**9},
        "gpus": [gpu] if has_gpu else [],
        "driver": "580.65" if has_gpu else None,
        "libraries": {"torch": "2.13.0", "numpy": "2.4.6"},
        "kernel_sources_sha256": "ab" * 32,
        "seed": 7,
    }


def _record(run: Path, spec: Spec, weights: str, workload: str, *, repeat: int) -> dict:
    pair, is_last = f"{weights}/{workload}", repeat == spec.num_repeats - 1
    planned = _planned(spec, precision(weights), workload)
    record = {
        "schema_version": 1,
        **planned,
        "target": spec.device,
        "repeat": repeat,
        "status": "ok",
        "error": None,
        "started_utc": "2026-01-01T12:00:00Z",
        "duration_s": 4.2,
        "verdict": _verdict(spec, weights, workload),
        "implementation": _implementation(spec, weights),
        "check": {"relative_error": 2.1e-3, "bound": 1e-2, "passed": True, "against": "a float64 loop"},
        "weights": {"sha256": (weights * 16)[:64], "source": spec.weights_source},
        "metrics": {},
        "experts": None,
        "samples": {},
    }
    if "*" in spec.failing or (pair in spec.failing and is_last):
        verdict = {"state": "INVALID", "reasons": [{"code": "failed", "message": CRASH}]}
        error = {"kind": "worker_died", "message": CRASH}
        return record | {
            "status": "failed",
            "error": error,
            "verdict": verdict,
            "weights": None,
            "check": None,
        }
    return record | _measured(run, spec, weights, workload, repeat=repeat)


def _measured(run: Path, spec: Spec, weights: str, workload: str, *, repeat: int) -> dict:
    metrics, samples = figures.memory(weights, workload), {}
    if workload == "heldout":
        metrics |= figures.quality(weights, has_baseline="bf16" in spec.precisions)
    else:
        rng = np.random.default_rng([repeat, *map(ord, weights + workload)])
        factor = {"bf16": 1.0, "fp8": (1 + spec.speedup) / 2}.get(weights, spec.speedup)
        scale = 3.4 if workload == "batch8" else 1.0
        metrics |= figures.speed(spec.speed * factor * scale * rng.uniform(0.985, 1.015), workload)
        name = f"samples/{precision(weights)['id']}-{workload}-r{repeat}-requests.parquet"
        parquet.write_table(pa.Table.from_pylist(figures.request_rows(metrics, workload, rng)), run / name)
        samples = {"requests": name}
    return {"metrics": metrics, "experts": figures.experts(weights, workload), "samples": samples}


def _verdict(spec: Spec, weights: str, workload: str) -> dict:
    if f"{weights}/{workload}" in spec.invalid:
        return {"state": "INVALID", "reasons": [WRONG]}
    if workload == "single":
        return {"state": "WARN", "reasons": [WARNING]}
    return {"state": "VALID", "reasons": []}


def _implementation(spec: Spec, weights: str) -> list[dict]:
    is_cpu = spec.device["kind"] == "cpu"
    chosen = "reference" if is_cpu else "triton-upcast" if weights != "bf16" else "torch-grouped"
    refused = [{"name": "triton-native", "reason": f"needs sm_100 or newer, this is {spec.device['kind']}"}]
    limits = [None] if is_cpu or weights == "bf16" else [128, None]
    names = ["triton-decode", chosen][-len(limits) :]
    experts = {"op": "experts", "chosen": chosen, "is_reference": is_cpu, "layout": "rows", "refused": refused}
    experts["crossovers"] = [{"max_tokens": limit, "name": name} for limit, name in zip(limits, names, strict=True)]
    experts |= {"source": f"measured on {spec.device['name']}", "notes": [], "call_tokens": None}
    return [{"op": "route", "chosen": "reference", "is_reference": True, "refused": []}, experts]
