"""What the passes of a cell leave on a GPU, made up: ranges, torch traces of an eager engine and of graph replays.

In: a folder. Out: the result of a profiled process, whose files lie there. Two layers; a decode step launches 10 kernels: a
copy, four a layer (projections 2 x 8 us, attention 5, experts 60), head 20 us; replayed, each takes 1 us less.
"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

LAYERS, STEP_US, REPLAYS = 2, 3000.0, 4
WORK = (("attention projections", 8.0), ("attention", 5.0), ("attention projections", 8.0), ("experts", 60.0))


def _event(cat: str, name: str, ts: float, dur: float, **args) -> dict:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, "args": args}


class _Trace:
    """Events of a Chrome trace, with a new correlation a launch."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self._correlation = 0

    def range(self, name: str, ts: float, dur: float) -> None:
        self.events.append(_event("user_annotation", name, ts, dur))

    def launch(self, ts: float, call: str = "cudaLaunchKernel") -> int:
        self._correlation += 1
        self.events.append(_event("cuda_runtime", call, ts, 2.0, correlation=self._correlation))
        return self._correlation

    def kernel(self, name: str, ts: float, dur: float, correlation: int) -> None:
        self.events.append(_event("kernel", name, ts, dur, correlation=correlation, stream=7))

    def write(self, path: Path) -> None:
        path.write_bytes(gzip.compress(json.dumps({"traceEvents": self.events}).encode()))


def kernel_list() -> list[tuple[str, float, str]]:
    """(kernel, microseconds, its range) of a decode step, in order."""
    layers = [(f"{name} kernel", us, name) for _ in range(LAYERS) for name, us in WORK]
    return [("copy", 1.5, "prepare"), *layers, ("head kernel", 20.0, "head")]


def eager_trace(path: Path) -> None:
    trace = _Trace()
    for number in range(3):
        at = number * STEP_US
        trace.range("decode step", at, 1000)
        gpu = at + 1100
        trace.range("prepare", at + 5, 40)
        trace.kernel("copy", gpu, 1.5, trace.launch(at + 20))
        for layer in range(LAYERS):
            start = at + 60 + 400 * layer
            trace.range("layer", start, 390)
            for index, (name, us) in enumerate(WORK):
                trace.range(name, start + 10 + 90 * index, 80)
                gpu += 100
                trace.kernel(f"{name} kernel", gpu, us, trace.launch(start + 30 + 90 * index))
        trace.range("head", at + 900, 50)
        trace.kernel("head kernel", gpu + 100, 20.0, trace.launch(at + 920))
    trace.write(path)


def replay_trace(path: Path) -> None:
    trace = _Trace()
    for number in range(REPLAYS):
        at = number * STEP_US
        trace.range("decode step", at, 60)
        trace.range("prepare", at + 2, 10)
        trace.kernel("copy", at + 70, 1.5, trace.launch(at + 5))
        trace.range("graph replay", at + 20, 20)
        correlation, gpu = trace.launch(at + 25, "cudaGraphLaunch"), at + 80
        for name, us, _ in kernel_list()[1:]:
            trace.kernel(name, gpu, us - 1.0, correlation)
            gpu += us
    trace.write(path)


def gpu_result(folder: Path) -> dict:
    """Files below `folder`/samples."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(REPLAYS):
        at = number * 3_000_000
        for name, start, end, depth in (("prepare", 2, 12, 2), ("graph replay", 20, 40, 2), ("decode step", 0, 60, 1)):
            times = {"start_ns": at + start * 1000, "end_ns": at + end * 1000}
            rows.append({"name": name, "depth": depth} | times)
        rows.append({"name": "wait for the device", "start_ns": at + 70_000, "end_ns": at + 290_000, "depth": 1})
    columns = [row | {"step": None, "layer": None, "tokens": 1} for row in rows]
    parquet.write_table(pa.Table.from_pylist(columns), folder / "samples/r.parquet")
    eager_trace(folder / "samples/e.json.gz")
    replay_trace(folder / "samples/g.json.gz")
    passes = [
        {"name": "off", "decode_s": [2.9e-4] * 40, "samples": {}},
        {"name": "ranges", "decode_s": [2.92e-4] * 40, "samples": {"ranges": "samples/r.parquet"}},
        {"name": "torch", "decode_s": [1e-3] * 6, "samples": {"trace": "samples/e.json.gz", "replays": "samples/g.json.gz"}},
    ]
    ceilings = {"best_read_gb_s": 3000.0, "product_tflops": {"bf16": 700.0}, "read_pattern": "sum", "notes": []}
    facts = {
        "num_layers": LAYERS, "num_experts": 8, "top_k": 2, "hidden": 4096, "intermediate": 14336, "vocab": 32000,
        "heads": 32, "kv_heads": 8, "head_dim": 128, "expert_bytes": 99e6, "attention_bytes": 84e6, "head_bytes": 262e6,
        "router_bytes": 65536, "kv_bytes_per_value": 2, "mean_context": 528.0, "decode_tokens": 1.0,
        "experts_hit": [2.0, 2.0], "product_kind": "bf16", "ceilings": ceilings,
    }  # fmt: skip
    return {"passes": passes, "facts": facts, "cost": {"off_ns": 200.0, "collector_ns": 800.0}}
