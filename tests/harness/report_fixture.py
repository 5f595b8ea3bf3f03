"""Builds run folders for the report's tests: the record layout of harness, with invented but consistent figures.

In: a folder and what the run should contain. Out: the run folder, with run.json, records.jsonl and samples/.
The sizes are pocket-mixtral's (5 layers, 8 experts, hidden 256, intermediate 128); no figure here was measured.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

NUM_LAYERS, NUM_EXPERTS, TOP_K = 5, 8, 2
NUM_EXPERT_WEIGHTS = NUM_LAYERS * NUM_EXPERTS * 3 * 256 * 128
NUM_TOKENS = 65536
CPU = {"kind": "cpu", "name": "Intel(R) Xeon(R) Processor @ 2.60GHz"}
REQUESTS = {"single": {"concurrency": 1, "num_requests": 8}, "batch8": {"concurrency": 8, "num_requests": 24}}
PHASES = ("mean", "median", "std", "p50", "p90", "p95", "p99")
PERCENT_COSTS = {"nvfp4": 1.31, "mxfp4": 2.94, "fp8": 0.08, "int4": 1.9, "ternary": 61.0}
WEIGHT_BITS = {
    "bf16": (16, 0),
    "fp8": (8, 0.01),
    "nvfp4": (4, 0.5),
    "mxfp4": (4, 0.25),
    "int4": (4, 0.5),
    "ternary": (2, 0.25),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What a run contains. `speed` is BF16's decode tokens/s; `speedup` multiplies it for the 4-bit formats."""

    precisions: tuple[str, ...] = ("bf16", "nvfp4", "mxfp4")
    workloads: tuple[str, ...] = ("single", "batch8", "heldout")
    target: dict | None = None
    num_repeats: int = 3
    speed: float = 410.0
    speedup: float = 0.71
    weights_source: str = "trained"
    failing: tuple[str, ...] = (
        "mxfp4/batch8",
    )  # "precision/workload": its last repeat fails; "*": all of all fail
    run_id: str = "20260101T120000Z-smoke-1a2b3c"
    scenario_sha256: str = "5c" * 32

    @property
    def is_cpu(self) -> bool:
        return (self.target or CPU)["kind"] == "cpu"


def make_run(folder: Path, spec: Spec | None = None) -> Path:
    """Write a run folder named after the run id below `folder` and return it."""
    spec = spec or Spec()
    run = folder / spec.run_id
    (run / "samples").mkdir(parents=True, exist_ok=True)
    cells = [(precision, workload) for precision in spec.precisions for workload in spec.workloads]
    (run / "run.json").write_text(json.dumps(_info(spec, cells)), encoding="utf-8")
    lines = [json.dumps(record) for cell in cells for record in _records(run, spec, *cell)]
    (run / "records.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return run


def _precision(weights: str) -> dict:
    method = {"bf16": "none", "fp8": "absmax"}.get(weights, "search")
    identity = "bf16-a16" if weights == "bf16" else f"{weights}-{method}-a16"
    return {
        "id": identity,
        "label": f"{weights.upper()} x BF16 ({method})",
        "weights": weights,
        "method": method,
        "activations": "bf16",
    }


def _cell_id(spec: Spec, weights: str, workload: str) -> str:
    return f"pocket-mixtral/native/{_precision(weights)['id']}/{workload}/{(spec.target or CPU)['kind']}"


def _info(spec: Spec, cells: list[tuple[str, str]]) -> dict:
    target = spec.target or CPU
    planned = [
        {
            "cell_id": _cell_id(spec, *cell),
            "model": "pocket-mixtral",
            "backend": "native",
            "precision": _precision(cell[0])["id"],
            "workload": cell[1],
            "target": target["kind"],
        }
        for cell in cells
    ]
    gpus = (
        []
        if spec.is_cpu
        else [{"name": target["name"], "capability": target["kind"], "memory_bytes": 80 * 10**9}]
    )
    provenance = {
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "command_line": ["harness", "run", "scenarios/smoke.yaml"],
        "host": "bench-01",
        "os": "Linux 6.1",
        "python": "3.11.7",
        "cpu": {"name": CPU["name"], "num_cores": 2, "memory_bytes": 8 * 10**9},
        "gpus": gpus,
        "driver": None if spec.is_cpu else "580.65",
        "libraries": {"torch": "2.13.0", "numpy": "2.4.6"},
        "kernel_sources_sha256": "ab" * 32,
        "seed": 7,
    }
    dropped = [
        {
            "model": "pocket-mixtral",
            "precision": "nvfp4-search-a4",
            "workload": "single",
            "target": target["kind"],
            "reason": "needs sm_100 or newer; this machine has no GPU",
        },
        {
            "model": "mixtral-8x7b",
            "precision": "bf16-a16",
            "workload": "batch8",
            "target": target["kind"],
            "reason": "needs 93.4 GB of memory; this machine has 8.0 GB",
        },
    ]
    return {
        "schema_version": 1,
        "run_id": spec.run_id,
        "scenario_name": "smoke",
        "scenario": {"name": "smoke", "repeats": spec.num_repeats},
        "scenario_sha256": spec.scenario_sha256,
        "started_utc": "2026-01-01T12:00:00Z",
        "finished_utc": "2026-01-01T12:14:00Z",
        "provenance": provenance,
        "plan": {"cells": planned, "dropped": dropped},
    }


def _records(run: Path, spec: Spec, weights: str, workload: str) -> list[dict]:
    repeats = 1 if workload == "heldout" else spec.num_repeats
    return [_record(run, spec, weights, workload, repeat=repeat) for repeat in range(repeats)]


def _record(run: Path, spec: Spec, weights: str, workload: str, *, repeat: int) -> dict:
    rng = np.random.default_rng([repeat, len(weights), sum(map(ord, weights + workload))])
    last = repeat == spec.num_repeats - 1
    failed = "*" in spec.failing or (f"{weights}/{workload}" in spec.failing and last)
    kind = "heldout" if workload == "heldout" else "requests"
    record = {
        "schema_version": 1,
        "cell_id": _cell_id(spec, weights, workload),
        "model": "pocket-mixtral",
        "backend": "native",
        "precision": _precision(weights),
        "workload": {"name": workload, "kind": kind, **REQUESTS.get(workload, {})},
        "target": spec.target or CPU,
        "repeat": repeat,
        "status": "failed" if failed else "ok",
        "error": None,
        "started_utc": "2026-01-01T12:00:00Z",
        "duration_s": 4.2,
        "verdict": {"state": "VALID", "reasons": []},
        "implementation": [],
        "check": None,
        "weights": {"sha256": (weights * 16)[:64], "source": spec.weights_source},
        "metrics": {},
        "experts": None,
        "samples": {},
    }
    if failed:
        message = "worker ended with signal 9 <killed> after 3.1 s & no output"
        return {
            **record,
            "error": {"kind": "WorkerCrash", "message": message},
            "verdict": {"state": "INVALID", "reasons": []},
        }
    if workload == "single" and spec.num_repeats > 1:
        reasons = [{"code": "few-samples", "message": "8 requests are too few for p99"}]
        record["verdict"] = {"state": "WARN", "reasons": reasons}
    record["implementation"] = _implementation(spec, weights)
    record["check"] = {
        "relative_error": 2.1e-3,
        "bound": 1e-2,
        "passed": True,
        "against": "reference in float64",
    }
    record["experts"] = _experts(weights, workload, rng)
    record["metrics"] = _memory(spec, weights, workload)
    if kind == "heldout":
        record["metrics"] |= _quality(spec, weights)
    else:
        speed = _speed(spec, weights, workload, rng)
        record["metrics"] |= speed
        record["samples"] = {"requests": _write_requests(run, record, speed, rng)}
    return record


def _metric(value: float | None, unit: str, *, n: int = 1, reason: str | None = None) -> dict:
    return {"value": value, "unit": unit, "n": n, "reason": reason}


def _implementation(spec: Spec, weights: str) -> list[dict]:
    chosen = "reference" if spec.is_cpu else "triton-upcast" if weights != "bf16" else "torch-grouped"
    refused = [
        {
            "name": "triton-native",
            "reason": "needs sm_100 or newer, this device is " + (spec.target or CPU)["kind"],
        }
    ]
    return [
        {"op": op, "chosen": chosen, "is_reference": spec.is_cpu, "refused": refused}
        for op in ("gate_up", "down")
    ] + [{"op": "route", "chosen": "reference", "is_reference": True, "refused": []}]


def _memory(spec: Spec, weights: str, workload: str) -> dict:
    code_bits, scale_bits = WEIGHT_BITS[weights]
    codes, scales = NUM_EXPERT_WEIGHTS * code_bits / 8, NUM_EXPERT_WEIGHTS * scale_bits / 8
    tensor_scales = NUM_LAYERS * NUM_EXPERTS * 2 * 4 if weights == "nvfp4" else 0
    kept = {"attention": 1966080, "embedding": 1048576, "router": 20480, "norm": 5632}
    parts = {"expert_codes": codes, "expert_scales": scales, "expert_tensor_scales": tensor_scales, **kept}
    found = {f"{name}_bytes": _metric(value, "bytes") for name, value in parts.items()}
    found["weight_bytes"] = _metric(sum(parts.values()), "bytes")
    slots = {"single": 1, "batch8": 8, "heldout": 0}[workload]
    found["kv_cache_bytes"] = (
        _metric(slots * 256 * 2560.0, "bytes")
        if slots
        else _metric(None, "bytes", n=0, reason="scoring keeps no KV cache")
    )
    found["activation_peak_bytes"] = _metric(380e3 * max(slots, 1), "bytes")
    found["process_peak_rss_bytes"] = _metric(612e6, "bytes")
    return found


def _quality(spec: Spec, weights: str) -> dict:
    if spec.weights_source == "random":
        reason = "random weights carry no perplexity"
        return {
            name: _metric(None, "", n=0, reason=reason) for name in ("perplexity", "perplexity_change_pct")
        }
    cost = PERCENT_COSTS.get(weights, 0.0)
    perplexity = 18.42 * (1 + cost / 100)
    found = {
        "perplexity": _metric(perplexity, "", n=NUM_TOKENS),
        "bits_per_byte": _metric(1.21 * (1 + cost / 900), "bits", n=NUM_TOKENS),
        "mean_nll_nats": _metric(float(np.log(perplexity)), "nats", n=NUM_TOKENS),
        "num_scored_tokens": _metric(NUM_TOKENS, "tokens", n=1),
    }
    if weights == "bf16" or "bf16" not in spec.precisions:
        reason = "this is the baseline" if weights == "bf16" else "no BF16 cell to compare with"
        return found | {"perplexity_change_pct": _metric(None, "%", n=0, reason=reason)}
    ends = {
        "perplexity_change_pct": cost,
        "perplexity_change_low_pct": cost - 0.2,
        "perplexity_change_high_pct": cost + 0.2,
    }
    found |= {name: _metric(value, "%", n=NUM_TOKENS) for name, value in ends.items()}
    return found | {
        "mean_kl_nats": _metric(0.0091 * cost, "nats", n=NUM_TOKENS),
        "top1_agreement_pct": _metric(97.1 - cost, "%", n=NUM_TOKENS),
    }


def _speed(spec: Spec, weights: str, workload: str, rng: np.random.Generator) -> dict:
    size = REQUESTS[workload]
    factor = {"bf16": 1.0, "fp8": (1 + spec.speedup) / 2}.get(weights, spec.speedup) * rng.uniform(
        0.985, 1.015
    )
    output = spec.speed * factor * (3.4 if workload == "batch8" else 1.0)
    found = {
        "output_throughput": _metric(output, "tokens/s", n=size["num_requests"]),
        "decode_throughput": _metric(1.22 * output, "tokens/s", n=size["num_requests"]),
        "prefill_throughput": _metric(6.1 * output, "tokens/s", n=size["num_requests"]),
        "total_token_throughput": _metric(3.0 * output, "tokens/s", n=size["num_requests"]),
        "request_throughput": _metric(output / 32, "requests/s", n=size["num_requests"]),
    }
    first = 11_000 / spec.speed / factor * (2.2 if workload == "batch8" else 1.0)
    for name, center in {
        "ttft": first,
        "tpot": 900 / spec.speed / factor,
        "itl": 890 / spec.speed / factor,
        "e2el": 60e3 / spec.speed / factor,
    }.items():
        for phase in PHASES:
            value = center * {"std": 0.1, "p99": 1.4, "p95": 1.25, "p90": 1.2}.get(phase, 1.0)
            found[f"{phase}_{name}_ms"] = _metric(value, "ms", n=size["num_requests"])
    if workload == "single":
        found["p99_ttft_ms"] = _metric(None, "ms", n=8, reason="8 requests; p99 needs at least 100")
    return found


def _experts(weights: str, workload: str, rng: np.random.Generator) -> dict:
    base = np.random.default_rng(11).dirichlet(np.full(NUM_EXPERTS, 5.0), size=NUM_LAYERS)
    shares = base * (1 + (0 if weights == "bf16" else 0.03) * rng.standard_normal(base.shape))
    total = TOP_K * (NUM_TOKENS if workload == "heldout" else 6400)
    layers = []
    for layer, share in enumerate(shares / shares.sum(axis=1, keepdims=True)):
        ordered = np.sort(share)
        gini = float((2 * np.arange(1, 9) - 9) @ ordered / (8 * ordered.sum()))
        layers.append(
            {
                "layer": layer,
                "histogram": [int(x) for x in np.round(share * total)],
                "max_over_mean": float(8 * share.max()),
                "cv": float(8 * share.std()),
                "gini": gini,
                "entropy_bits": float(-(share * np.log2(share)).sum()),
                "active_per_step": {"single": 2.0, "batch8": 6.3}.get(workload, 8.0),
                "top2_share": float(ordered[-2:].sum()),
            }
        )
    slot_bytes = NUM_LAYERS * 3 * 256 * 128 * sum(WEIGHT_BITS[weights]) / 8
    cache = [
        {
            "slots_per_layer": slots,
            "budget_bytes": slots * slot_bytes,
            "policy": policy,
            "num_accesses": 32000,
            "hit_rate": float((slots / 8) ** power),
        }
        for slots in range(1, 9)
        for policy, power in (("lru", 0.85), ("lfu", 0.75), ("belady", 0.5))
    ]
    return {
        "num_experts": NUM_EXPERTS,
        "top_k": TOP_K,
        "phase": "score" if workload == "heldout" else "decode",
        "layers": layers,
        "cache": [] if workload == "heldout" else cache,
    }


def _write_requests(run: Path, record: dict, speed: dict, rng: np.random.Generator) -> str:
    """Requests served first come first served in as many slots as the workload's concurrency; times in ns."""
    size = record["workload"]
    first_ns, gap_ns = speed["median_ttft_ms"]["value"] * 1e6, speed["median_itl_ms"]["value"] * 1e6
    free, rows, start = [0.0] * size["concurrency"], [], 5e12
    for index in range(size["num_requests"]):
        slot = int(np.argmin(free))
        submitted, tokens = free[slot], int(rng.integers(20, 40))
        first = submitted + first_ns * rng.uniform(0.8, 1.2) * (1 + slot / size["concurrency"])
        times = first + np.concatenate(([0.0], np.cumsum(gap_ns * rng.uniform(0.9, 1.1, tokens - 1))))
        free[slot] = float(times[-1])
        stamps = {
            "scheduled_ns": max(0.0, submitted - 2e6),
            "submitted_ns": submitted,
            "first_token_ns": first,
            "end_ns": times[-1],
        }
        rows.append(
            {
                "request_id": f"r{index}",
                **{key: int(start + value) for key, value in stamps.items()},
                "prompt_tokens": 64,
                "output_tokens": tokens,
                "ttft_ms": (first - submitted) / 1e6,
                "tpot_ms": gap_ns / 1e6,
                "e2el_ms": (times[-1] - submitted) / 1e6,
                "token_times_ns": [int(start + value) for value in times],
            }
        )
    name = f"samples/{record['precision']['id']}-{size['name']}-{record['repeat']}-requests.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), run / name)
    return name
