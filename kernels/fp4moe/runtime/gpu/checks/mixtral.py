"""Mixtral-8x7B with random NVFP4 weights: memory as predicted, and what recording costs a decode step.

In: nothing; makes the model. Out: lines. What the driver says is used is read with nvidia-smi before CUDA is started and while
the engine stands, so the context's and the libraries' own share is in it.
"""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Iterator
from statistics import median

import torch

from fp4moe.precision import Precision
from fp4moe.runtime.config import MIXTRAL_8X7B, MixtralConfig
from fp4moe.runtime.gpu.checks.serving import requests_of, serve
from fp4moe.runtime.gpu.engine import GpuEngine
from fp4moe.runtime.gpu.memory import predict_gpu_bytes
from fp4moe.runtime.gpu.schedule import STEP_TOKENS
from fp4moe.runtime.load import load_model
from fp4moe.runtime.random_weights import RandomWeights
from fp4moe.runtime.recorder import RoutingRecorder

SLOTS, CONTEXT = 32, 512
MOST_OFF = 0.03
MOST_RECORDING_COST = 0.01
_PROMPT_TOKENS, _NEW_TOKENS = 384, 24
_ROUNDS = 5


def used_bytes_by_gpu() -> dict[str, int] | None:
    """Uuid -> bytes in use by anybody, as the driver says; None where nvidia-smi is not there. Starts no CUDA."""
    command = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return parse_used(done.stdout)


def parse_used(text: str) -> dict[str, int]:
    """Of lines "GPU-uuid, MiB"."""
    pairs = (line.split(",") for line in text.splitlines() if line.strip())
    return {uuid.strip().removeprefix("GPU-"): int(mib) * 2**20 for uuid, mib in pairs}


def check_mixtral(used_before: dict[str, int] | None, config: MixtralConfig = MIXTRAL_8X7B) -> Iterator[dict]:
    """Load, serve, compare; `used_before` is what `used_bytes_by_gpu` said before CUDA was started."""
    start = time.perf_counter()
    model = load_model(RandomWeights(config), Precision("nvfp4"), device="cuda:0", allow_reference=False)
    torch.cuda.synchronize()
    layout = next(choice.layout for choice in model.choices if choice.op == "experts")
    yield {"check": "load", "seconds": time.perf_counter() - start, "limit": 60.0, "layout": layout,
           "passed": time.perf_counter() - start < 60}  # fmt: skip
    engine = GpuEngine(model, max_slots=SLOTS, max_context=CONTEXT)
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(3, config.vocab_size, (SLOTS, _PROMPT_TOKENS), generator=generator).tolist()
    found = serve(engine, requests_of(texts, _NEW_TOKENS))
    sizes = {"max_slots": SLOTS, "max_context": CONTEXT, "step_tokens": STEP_TOKENS}
    predicted = predict_gpu_bytes(config, model.precision, layout=layout, **sizes)
    yield _memory_line(predicted, measured_bytes(model, engine, used_before), num_errors=len(found.errors))
    yield _recording_line(engine, texts)
    del model, engine
    gc.collect()
    torch.cuda.empty_cache()


def measured_bytes(model, engine: GpuEngine, used_before: dict[str, int] | None) -> dict[str, int]:
    """By cause, and `total`; without the driver's word `cuda` is missing and the total is the allocator's."""
    weights = model.memory_bytes()
    reserved, allocated = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
    held = {"weights": sum(weights.values()), "kv_cache": engine.kv_cache_bytes}
    held["workspace"] = allocated - sum(held.values())
    held["allocator_slack"] = reserved - allocated
    now, uuid = used_bytes_by_gpu() or {}, str(torch.cuda.get_device_properties(0).uuid).removeprefix("GPU-")
    if uuid not in now or uuid not in (used_before or {}):
        return held | {"total": reserved}
    cuda = now[uuid] - used_before[uuid] - torch.cuda.memory_reserved()
    return held | {"cuda": cuda, "total": reserved + cuda}


def _memory_line(predicted: dict[str, int], measured: dict[str, int], *, num_errors: int) -> dict:
    total = sum(predicted.values())
    if "cuda" not in measured:  # like with like
        total -= predicted["cuda"]
    off = total / measured["total"] - 1
    return {
        "check": "memory as predicted", "slots": SLOTS, "context": CONTEXT, "predicted": predicted, "predicted_total": total,
        "measured": measured, "relative": off, "limit": MOST_OFF, "errors": num_errors,
        "passed": abs(off) <= MOST_OFF and num_errors == 0,
    }  # fmt: skip


def _recording_line(engine: GpuEngine, texts: list[list[int]]) -> dict:
    """The median decode step with and without a recorder, in runs that take turns; each cost is of two neighbouring runs."""
    shorts = [text[:16] for text in texts]
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * _ROUNDS + 2):
        is_on = turn % 2 == 1
        engine.record_into(RoutingRecorder(MIXTRAL_8X7B.num_layers) if is_on else None)
        steps = serve(engine, requests_of(shorts, 64)).steps
        if turn >= 2:  # the first of each kind warms up
            times[is_on].append(median(step.end_ns - step.start_ns for step in steps if step.phase == "decode") / 1e3)
    costs = [on / off - 1 for off, on in zip(times[False], times[True], strict=True)]
    return {
        "check": "cost of recording", "requests": len(texts), "rounds": _ROUNDS, "off_us": median(times[False]),
        "on_us": median(times[True]), "relative": median(costs), "all": costs, "limit": MOST_RECORDING_COST,
        "passed": median(costs) <= MOST_RECORDING_COST,
    }  # fmt: skip
