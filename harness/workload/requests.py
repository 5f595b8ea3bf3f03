"""Requests of a workload: which prompt, when it should start.

In: a workload spec, the token ids of a text (or a vocabulary size when there is none), a seed. Out: `PlannedRequest`s.
The prompts are windows of the text at seeded places, so that routing is that of real language.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.scenario.schema import WorkloadSpec


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request before it is sent."""

    request_id: str
    prompt_ids: list[int]
    output_tokens: int
    scheduled_s: float | None
    """Seconds after the start; None in a closed loop, where a request starts when another ends."""


def plan_requests(spec: WorkloadSpec, text_ids: Sequence[int] | None, vocab_size: int, seed: int) -> list[PlannedRequest]:
    """The requests of one repeat; every repeat sends the same ones, so that repeats differ by timing alone."""
    generator = np.random.default_rng([seed, len(spec.name), *spec.name.encode()])
    arrivals = arrival_times_s(spec, generator)
    return [
        PlannedRequest(
            f"{spec.name}-{index}",
            _prompt(spec.prompt_tokens, text_ids, vocab_size, generator),
            spec.output_tokens,
            arrivals[index],
        )
        for index in range(spec.num_requests)
    ]


def arrival_times_s(spec: WorkloadSpec, generator: np.random.Generator) -> list[float | None]:
    """Scheduled start of each request in seconds; None for a closed loop."""
    count, arrival = spec.num_requests, spec.arrival
    match arrival.kind:
        case "closed":
            return [None] * count
        case "all_at_once":
            return [0.0] * count
        case "constant":
            return [index / arrival.rate_per_s for index in range(count)]
        case "poisson":
            gaps = generator.exponential(1.0 / arrival.rate_per_s, size=count)
            return [float(time) for time in np.cumsum(gaps) - gaps[0]]
    raise ValueError(f"no arrival rule for {arrival.kind!r}")


def _prompt(length: int, text_ids: Sequence[int] | None, vocab_size: int, generator: np.random.Generator) -> list[int]:
    if text_ids is None:
        return [int(token) for token in generator.integers(3, vocab_size, size=length)]
    if len(text_ids) <= length:
        repeats = -(-length // len(text_ids))
        return list(text_ids)[:length] if repeats == 1 else (list(text_ids) * repeats)[:length]
    start = int(generator.integers(0, len(text_ids) - length))
    return list(text_ids[start : start + length])
