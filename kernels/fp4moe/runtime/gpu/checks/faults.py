"""Bad input, and that nothing is left behind: each fault gives an EngineError or an orderly wait, and the engine goes on.

In: a model, prompts. Out: lines.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fp4moe.errors import EngineError
from fp4moe.runtime.engine import Engine
from fp4moe.runtime.gpu.checks.serving import requests_of, serve
from fp4moe.runtime.gpu.engine import GpuEngine
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.request import Request
from fp4moe.runtime.sampling import Sampling

# Request numbers are kept (100 bytes a request, for records); the rest is the allocators' slack.
MOST_HOST_GROWTH_BYTES = 32 * 2**20
NUM_REQUESTS = 10_000
_ROUND = 200  # requests between two idle moments; the sizes of requests repeat with it


def check_requests(model: MixtralModel, prompts: Sequence[list[int]], *, new_tokens: int = 8) -> Iterator[dict]:
    """Refusals, an orderly wait, cancelling in every state; the same tokens before and after."""
    engine = GpuEngine(model, max_slots=2, max_context=max(map(len, prompts)) + new_tokens)
    before = serve(engine, requests_of(prompts, new_tokens)).tokens
    yield {
        "check": "more sequences than slots", "requests": len(prompts), "slots": 2,
        "passed": all(len(tokens) == new_tokens for tokens in before.values()) and len(before) == len(prompts),
    }  # fmt: skip
    for name, request in (
        ("prompt longer than the context", Request("bad", [3] * 5000, 8)),
        ("token beyond the vocabulary", Request("bad", [model.config.vocab_size], 8)),
        ("empty prompt", Request("bad", [], 8)),
        ("request id twice", Request("r0", [3], 8)),
    ):
        message = _refusal(lambda request=request: engine.submit(request))
        yield {"check": name, "message": message, "passed": message is not None and not engine.has_work}
    yield _check_cancel(engine, prompts, new_tokens)
    engine.record_into(None)
    after = serve(engine, requests_of(prompts, new_tokens)).tokens
    yield {"check": "same tokens after all that", "passed": after == before}


def _refusal(act: Callable[[], object]) -> str | None:
    try:
        act()
    except EngineError as error:
        return str(error)
    return None


def _check_cancel(engine: GpuEngine, prompts: Sequence[list[int]], new_tokens: int) -> dict:
    """One waiting, one in the middle of its tokens with a step under way, one right after it was submitted."""
    for request in requests_of(prompts[:4], new_tokens, prefix="c"):
        engine.submit(request)
    seen = [engine.step() for _ in range(3)]
    for request_id in ("c3", "c0"):
        engine.cancel(request_id)
    engine.submit(Request("c9", [5], 8))
    engine.cancel("c9")
    again = _refusal(lambda: engine.cancel("c9"))
    served = serve(engine, [])
    late = [name for step in served.steps for name, _ in step.emitted if name in ("c0", "c3", "c9")]
    ended = {name for step in [*seen, *served.steps] for name in step.finished}
    return {
        "check": "cancel midway", "late_tokens": late, "ended": sorted(ended), "message": again,
        "passed": not late and ended == {"c1", "c2"} and again is not None,
    }  # fmt: skip


def check_nan(model: MixtralModel, prompts: Sequence[list[int]], *, new_tokens: int = 8) -> dict:
    """A poisoned norm makes every request fail by name; a clean engine is not touched by it."""
    context = max(map(len, prompts)) + new_tokens
    layer = model.weights.layers[0]
    poisoned_D = layer.moe_norm_D.clone()
    poisoned_D[0] = float("nan")
    layers = (replace(layer, moe_norm_D=poisoned_D), *model.weights.layers[1:])
    bad = MixtralModel(model.config, model.precision, replace(model.weights, layers=layers), model.choices)
    clean = GpuEngine(model, max_slots=4, max_context=context)
    before = serve(clean, requests_of(prompts[:4], new_tokens)).tokens
    failed = serve(GpuEngine(bad, max_slots=4, max_context=context), requests_of(prompts[:4], new_tokens))
    messages = [str(error) for error in failed.errors]
    clean.record_into(None)
    after = serve(clean, requests_of(prompts[:4], new_tokens)).tokens
    is_named = all(any(f"'r{i}'" in message and "NaN" in message for message in messages) for i in range(4))
    return {
        "check": "NaN weights", "message": messages[0] if messages else None, "errors": len(messages),
        "passed": is_named and not failed.tokens and before == after,
    }  # fmt: skip


def check_one_nan(model: MixtralModel) -> dict:
    """A token whose embedding is NaN fails its own request; its neighbours and the next request of its slot go on."""
    rare = model.config.vocab_size - 1  # no request generates it, as the lengths below show
    embedding_VD = model.weights.embedding_VD.clone()
    embedding_VD[rare] = float("nan")
    head_VD = model.weights.embedding_VD if model.weights.head_VD is None else model.weights.head_VD
    weights = replace(model.weights, embedding_VD=embedding_VD, head_VD=head_VD)
    bad = MixtralModel(model.config, model.precision, weights, model.choices)
    engine = GpuEngine(bad, max_slots=2, max_context=32)
    requests = [Request("a", [5, 6], 8), Request("nan", [5, rare, 6], 8), Request("b", [9, 8], 8), Request("c", [5, 9], 8)]
    found = serve(engine, requests)
    lengths = {name: len(tokens) for name, tokens in found.tokens.items()}
    return {
        "check": "NaN in one request", "lengths": lengths, "errors": [str(error)[:60] for error in found.errors],
        "passed": len(found.errors) == 1 and lengths == {"a": 8, "b": 8, "c": 8},
    }  # fmt: skip


def check_many(model: MixtralModel, *, count: int = NUM_REQUESTS, max_slots: int = 64) -> dict:
    """Short requests, some sampled, some cancelled: the device's memory is the same to the byte after a warm-up."""
    engine = GpuEngine(model, max_slots=max_slots, max_context=32)
    _many(engine, model.config.vocab_size, 2 * _ROUND)  # meets every number of lanes that the rounds below have
    is_cuda = model.device.type == "cuda"
    before, host = torch.cuda.memory_allocated() if is_cuda else 0, _resident_bytes()
    num_ended, errors = _many(engine, model.config.vocab_size, count)
    after = torch.cuda.memory_allocated() if is_cuda else 0
    grown = _resident_bytes() - host
    return {
        "check": f"{count} requests", "ended": num_ended, "num_errors": len(errors), "first_error": errors[:1],
        "device_bytes": [before, after], "host_growth_bytes": grown,
        "limit": MOST_HOST_GROWTH_BYTES,
        "passed": num_ended == count - count // 100 and before == after and grown <= MOST_HOST_GROWTH_BYTES,
    }  # fmt: skip


def _resident_bytes() -> int:
    """What this process holds of the host's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _many(engine: GpuEngine, vocabulary: int, count: int) -> tuple[int, list[str]]:
    """(requests that ended, errors that steps raised); every hundredth is cancelled before it has run."""
    engine.record_into(None)
    num_ended, errors = 0, []

    def drain() -> int:
        served = serve(engine, [])
        errors.extend(map(str, served.errors))
        return sum(len(step.finished) for step in served.steps)

    for i in range(count):
        prompt = [(i * 7 + j) % vocabulary for j in range(1 + i % 9)]
        sampling = Sampling(temperature=0.7, seed=i) if i % 5 == 0 else Sampling()
        engine.submit(Request(f"{i}", prompt, 1 + i % 4, sampling))
        if i % 100 == 99:
            engine.cancel(f"{i}")
        if i % _ROUND == _ROUND - 1:
            num_ended += drain()
    return num_ended + drain(), errors


def check_out_of_memory(model: MixtralModel, ids: Sequence[int]) -> Iterator[dict]:
    """Somebody else takes the GPU's memory: a big prompt step fails with numbers, and succeeds once it is given back."""
    length, count = 480, 8
    prompts = [list(ids[i * length : (i + 1) * length]) for i in range(count)]
    engine = GpuEngine(model, max_slots=count, max_context=512)
    hoard = _take_all()
    try:
        failed = serve(engine, requests_of(prompts, 4))
    finally:
        hoard.clear()
        torch.cuda.empty_cache()
    message = str(failed.errors[0]) if failed.errors else None
    yield {
        "check": "GPU full", "message": message, "errors": len(failed.errors),
        "passed": message is not None and "no memory left" in message and "GB are free" in message,
    }  # fmt: skip
    engine.record_into(None)
    found = serve(engine, requests_of(prompts, 4))
    plain = serve(Engine(model, max_slots=count, max_context=512), requests_of(prompts, 4))
    same_first = sum(found.tokens[name][0] == tokens[0] for name, tokens in plain.tokens.items())
    yield {
        "check": "alive after the GPU was full", "errors": len(found.errors), "same_first_tokens": same_first,
        # Near-ties may turn one or two; a cache or a slot gone wrong would turn them all.
        "passed": not found.errors and len(found.tokens) == count and same_first >= count - 2,
    }  # fmt: skip


def _take_all() -> list[Tensor]:
    """Every block that the allocator can still give, down to 64 KiB; it gives its own cache up on the way."""
    hoard = []
    for size in (2**33, 2**30, 2**27, 2**24, 2**21, 2**20, 2**16):
        while True:
            try:
                hoard.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
            except torch.OutOfMemoryError:
                break
    return hoard
