"""Requests for the check, and what came of them.

In: a model, a tokenizer's ids of the held-out text, an engine. Out: prompts, tokens by request, times of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fp4moe import pocket
from fp4moe.errors import EngineError
from fp4moe.runtime.request import Request, StepResult
from fp4moe.runtime.sampling import Sampling

# Lengths of the prompts: one token, both sides of a graph's 32, beyond it, beyond a step of 128.
PROMPT_LENGTHS = (1, 2, 5, 17, 31, 32, 33, 64, 65, 100, 127, 150, 200, 257)


@dataclass(frozen=True, slots=True)
class Served:
    """`tokens` by request; the steps; what `step` raised."""

    tokens: dict[str, list[int]]
    steps: list[StepResult]
    errors: list[EngineError]


def heldout_ids() -> list[int]:
    """The held-out text of pocket-mixtral as token ids."""
    from tokenizers import Tokenizer  # a dependency of the harness that nothing else of the runtime needs

    tokenizer = Tokenizer.from_file(str(pocket.checkpoint_dir() / "tokenizer.json"))
    return tokenizer.encode(pocket.heldout_text(), add_special_tokens=False).ids


def windows(ids: Sequence[int], *, count: int, length: int) -> Tensor:
    """int64 [W, T], evenly spread over the text."""
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return torch.tensor([ids[start : start + length] for start in starts])


def prompts(ids: Sequence[int], count: int) -> list[list[int]]:
    """Stretches of the text of PROMPT_LENGTHS in turn."""
    starts = np.linspace(0, len(ids) - max(PROMPT_LENGTHS), count).astype(int)
    return [list(ids[start : start + PROMPT_LENGTHS[i % len(PROMPT_LENGTHS)]]) for i, start in enumerate(starts)]


def requests_of(
    prompts: Sequence[list[int]], new_tokens: int, *, sampling: Sequence[Sampling] | None = None, prefix: str = "r"
) -> list[Request]:
    """One request a prompt."""
    chosen = [Sampling()] * len(prompts) if sampling is None else sampling
    return [
        Request(f"{prefix}{i}", prompt, new_tokens, how) for i, (prompt, how) in enumerate(zip(prompts, chosen, strict=True))
    ]


def serve(engine: Any, requests: Sequence[Request], *, most_steps: int = 1_000_000) -> Served:
    """Submit all and step until nothing is left; AssertionError where that does not come to an end."""
    for request in requests:
        engine.submit(request)
    tokens, steps, errors = {}, [], []
    for _ in range(most_steps):
        if not engine.has_work:
            return Served(tokens, steps, errors)
        try:
            step = engine.step()
        except EngineError as error:
            errors.append(error)
            continue
        steps.append(step)
        for request_id, token in step.emitted:
            tokens.setdefault(request_id, []).append(token)
    raise AssertionError(f"the engine still has work after {most_steps} steps")


def overwrite_free_memory(device: torch.device, *, blocks: int = 2000, block_bytes: int = 512) -> None:
    """Fill small blocks that nobody holds with large numbers: whoever still reads one of them will show it."""
    kept = [torch.full((block_bytes // 4,), 2**30, dtype=torch.int32, device=device) for _ in range(blocks)]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    del kept


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """The place of the first unequal token; None where the shorter one is a prefix of the other."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
