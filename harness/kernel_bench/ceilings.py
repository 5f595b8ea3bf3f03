"""What this device can read and multiply at best, measured in the run that the rows stand in.

In: a torch device. Out: `Ceilings`. Reading: several patterns over 2 GiB, for none is the fastest everywhere; the best
counts and is named. Products: 8192^3 in BF16, and in FP8 where torch._scaled_mm takes it. On a CPU small sizes in
float32, so that the arithmetic of a row is the same. Random data: zeros run faster than real numbers do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.kernel_bench.limits import Ceilings
from harness.kernel_bench.timing import Replay, interleave, rounds_for

REPEATS = 15
READ_BYTES = {"cuda": 2 * 2**30, "cpu": 2**28}
PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}


def measure(device: torch.device) -> Ceilings:
    """Takes about a second on a GPU."""
    notes: list[str] = []
    read = _read(device, notes)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Ceilings(read, _products(device, notes), tuple(notes))


def _read(device: torch.device, notes: list[str]) -> dict[str, float]:
    num_bytes = READ_BYTES[device.type]
    data = torch.empty(num_bytes // 4, dtype=torch.float32, device=device).normal_()
    patterns: dict[str, Callable[[], object]] = {"sum of float32": data.sum}
    if device.type == "cuda":
        wide = data.view(torch.int64).view(-1, 2**14)
        halves = data.view(torch.bfloat16).view(-1, 2**13)
        vector = torch.randn(2**13, device=device).bfloat16()
        patterns |= {
            "maximum of int64 by row": lambda: wide.amax(1),
            "BF16 matrix x vector": lambda: halves @ vector,
        }
        patterns |= _streaming(data, notes)
    gb = num_bytes / 1e9
    return {name: gb / (us * 1e-6) for name, us in _medians(patterns, device, notes).items()}


def _streaming(data: torch.Tensor, notes: list[str]) -> dict[str, Callable[[], object]]:
    """A kernel that only loads: 16 bytes a thread, several loads in flight."""
    try:
        from harness.kernel_bench.streaming_read import streaming_read
    except ImportError as error:
        notes.append(f"no streaming read: {error}")
        return {}
    return {f"streaming load ({name})": run for name, run in streaming_read(data).items()}


def _products(device: torch.device, notes: list[str]) -> dict[str, float]:
    size = PRODUCT_SIZE[device.type]
    if device.type == "cpu":
        left, right = torch.randn(size, size), torch.randn(size, size)
        found = _medians({"fp32": lambda: left @ right}, device, notes)
    else:
        left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
        products = {"bf16": lambda: left @ right} | _fp8_product(left, right, notes)
        found = _medians(products, device, notes)
    return {kind: 2 * size**3 / us / 1e6 for kind, us in found.items()}


def _fp8_product(left: torch.Tensor, right: torch.Tensor, notes: list[str]) -> dict[str, Callable[[], object]]:
    if torch.cuda.get_device_capability(left.device) < (8, 9):
        notes.append("no FP8 product: this GPU has no FP8 tensor cores")
        return {}
    one = torch.ones((), device=left.device)
    a, b = left.to(torch.float8_e4m3fn), right.to(torch.float8_e4m3fn).t()
    scaled = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": True}
    return {"fp8": lambda: torch._scaled_mm(a, b, **scaled)}


def _medians(functions: dict[str, Callable[[], object]], device: torch.device, notes: list[str]) -> dict[str, float]:
    """Median microseconds of those that run; a pattern that fails is a note, unless none is left."""
    replays: dict[str, Replay] = {}
    for name, function in functions.items():
        try:
            replays[name] = Replay(function, device=device, rounds=rounds_for(500.0) if device.type == "cuda" else 1)
        except (RuntimeError, TypeError, ValueError) as error:
            if len(functions) == 1:
                raise
            notes.append(f"{name}: not measured ({str(error).splitlines()[0]})")
    timed = interleave(list(replays.values()), REPEATS)
    return {name: sample.median_us for name, sample in zip(replays, timed, strict=True)}
