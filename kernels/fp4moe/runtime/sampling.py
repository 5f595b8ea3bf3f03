"""From logits to a token: greedy, or sampled from each request's own random stream.

In: logits [V] and a `Sampling`. Out: a token id. Every request has its own seeded generator, drawn from once
a token, on the CPU: its tokens depend neither on its neighbors nor on the device's generator. No penalties,
no top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.errors import EngineError


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy. top_p: the smallest set of most likely tokens that reaches this probability.

    seed: its low 32 bits count, as with any CPU generator of torch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise EngineError(f"sampling.temperature: must not be negative (got {self.temperature}); 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise EngineError(f"sampling.top_p: must be in (0, 1] (got {self.top_p}); 1 keeps every token")

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0

    def generator(self) -> torch.Generator | None:
        """A fresh random stream; None when greedy."""
        return None if self.is_greedy else torch.Generator().manual_seed(self.seed)


def sample(logits_V: Tensor, sampling: Sampling, generator: torch.Generator | None) -> int:
    """One token id; advances `generator`. Equal logits: the lower id."""
    if sampling.is_greedy:
        return int(logits_V.argmax())
    probabilities_V = (logits_V.float().cpu() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        probabilities_V = _keep_top_p(probabilities_V, sampling.top_p)
    return int(probabilities_V.multinomial(1, generator=generator))


def _keep_top_p(probabilities_V: Tensor, top_p: float) -> Tensor:
    """Zero all but the nucleus; multinomial renormalizes. The most likely token always stays."""
    ordered_V, indices_V = probabilities_V.sort(descending=True, stable=True)
    before_V = ordered_V.cumsum(dim=-1) - ordered_V
    return torch.zeros_like(probabilities_V).scatter_(0, indices_V, ordered_V.where(before_V < top_p, 0.0))
