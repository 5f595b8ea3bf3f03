"""A run of scenarios/mixtral-sweep.yaml as a GPU would record it: the shape of a real record, invented figures.

In: a folder, a target. Out: the run folder. The template is the committed record of mixtral-8x7b on an H100 (sizes, stored
bytes, kernels, engine); times are invented: a decode step takes about STEP_OVER its limit at SPEEDS, a prompt PROMPT_OVER.
"""

import copy
import json
from pathlib import Path

import numpy as np

from harness.record.read import read_records
from harness.scenario.load import load_scenario

TEMPLATE = Path("results/baselines/mixtral-8x7b-h100")
H100 = {"kind": "h100", "name": "NVIDIA H100 80GB HBM3"}
RTX_5090 = {"kind": "rtx-5090", "name": "NVIDIA GeForce RTX 5090"}
CPU = {"kind": "cpu", "name": "AMD EPYC 7763"}
SPEEDS = {"h100": (3136.0, 701.6), "rtx-5090": (1600.0, 190.0), "cpu": (40.0, 2.0)}
"""GB/s read and TFLOP/s of BF16 products."""
BITS = {"nvfp4": 4.5, "fp8": 8.0}
STEP_OVER, PROMPT_OVER = 1.3, 1.6
FAILED = "p8192b16"
HOT = 0.7
"""Share of the slots that `hot70` sends to the first two experts."""
CEILINGS = {"read_gb_s": {"streaming load": 3000.0}, "best_read_gb_s": 3000.0, "product_tflops": {"bf16": 700.0}}
PROFILE = {
    "sources": {"host": "ranges", "gpu": None, "no_gpu": "not asked for"}, "notes": [], "rows": [], "attributed": {},
    "overhead": [], "cost": {}, "layers": [], "facts": {"ceilings": CEILINGS},
}  # fmt: skip


def write_run(folder: Path, target: dict = H100, *, profiled: bool = False, precisions: tuple[str, ...] = ("nvfp4",)) -> Path:
    """`profiled`: one cell carries a profile with ceilings, as `harness profile` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    template = read_records(TEMPLATE / "records.jsonl")[0]
    info = json.loads((TEMPLATE / "run.json").read_text()) | {"run_id": folder.name, "scenario_name": "mixtral-sweep"}
    planned = load_scenario(Path("scenarios/mixtral-sweep.yaml")).workloads
    workloads = [workload.model_dump(mode="json") | {"kind": "requests"} for workload in planned]
    cells = [(workload, weights, repeat) for weights in precisions for workload in workloads for repeat in range(3)]
    records = [_record(template, target, *cell) for cell in cells]
    if profiled:
        records[0]["profile"] = PROFILE
    info["plan"] = {"cells": [], "dropped": []}
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def _record(template: dict, target: dict, workload: dict, weights: str, repeat: int) -> dict:
    record = copy.deepcopy(template)
    precision = record["precision"]
    if weights != "nvfp4":
        precision |= {"id": f"{weights}-absmax-a16", "weights": weights, "method": "absmax"}
        record["metrics"]["expert_codes_bytes"]["value"] *= BITS[weights] / 4
    cell_id = f"mixtral-8x7b/native/{precision['id']}/{workload['name']}/{target['kind']}"
    record |= {"cell_id": cell_id, "workload": workload, "target": target, "repeat": repeat, "samples": {}}
    if workload["name"] == FAILED:
        error = {"kind": "OutOfMemoryError", "message": "the keys and values do not fit"}
        verdict = {"state": "INVALID", "reasons": [{"code": "failed", "message": error["message"]}]}
        return record | {"status": "failed", "error": error, "metrics": {}, "experts": None, "verdict": verdict}
    batch = min(workload["arrival"]["max_slots"], workload["num_requests"])
    chances = _chances(workload["routing"])
    hit = float(np.sum(1 - (1 - np.minimum(1.0, 2 * chances)) ** batch))
    for layer in record["experts"]["layers"]:
        layer |= {"active_per_step": hit, "histogram": [int(count) for count in np.round(chances * 254 * batch)]}
    record["metrics"] |= _speed(workload, batch, (BITS[weights], hit), SPEEDS[target["kind"]], repeat)
    return record


def _chances(routing: str | None) -> np.ndarray:
    if routing == "hot70":
        return np.array([HOT / 2] * 2 + [(1 - HOT) / 6] * 6)
    return np.full(8, 1 / 8) if routing == "uniform" else np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 36


def _speed(workload: dict, batch: int, experts: tuple[float, float], speeds: tuple[float, float], repeat: int) -> dict:
    prompt, output = workload["prompt_tokens"], workload["output_tokens"]
    (bits, hit), (read_gb_s, tflops) = experts, speeds
    num_bytes = 32 * (hit * 3 * 4096 * 14336 * bits / 8 + 84e6) + 262e6 + batch * (prompt + output / 2) * 131072
    step_ms = STEP_OVER * (num_bytes / read_gb_s / 1e6 + 0.3 + batch * 0.012) * (1 + 0.004 * repeat)
    prompt_ms = PROMPT_OVER * max(45e9 * bits / 8 / read_gb_s / 1e6, 2 * 12.6e9 * batch * prompt / tflops / 1e9)
    wall_ms = prompt_ms + step_ms * (output - 1)
    values = {
        "output_throughput": (batch * output / wall_ms * 1e3, "tokens/s"), "median_itl_ms": (step_ms, "ms"),
        "median_tpot_ms": (step_ms, "ms"), "median_ttft_ms": (prompt_ms, "ms"),
        "kv_cache_bytes": (batch * (prompt + output + 1) * 131072, "bytes"),
    }  # fmt: skip
    return {name: {"value": value, "unit": unit, "n": batch, "reason": None} for name, (value, unit) in values.items()}
