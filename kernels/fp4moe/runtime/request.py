"""What is asked of the engine and what a step answers.

In: a request from the caller. Out: a `StepResult` a step, with times from time.perf_counter_ns. Data only; see engine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4moe.runtime.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how to go on from it. ignore_eos: produce exactly max_new_tokens."""

    request_id: str
    prompt_ids: list[int]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    ignore_eos: bool = True


@dataclass(frozen=True, slots=True)
class StepResult:
    """One pass through the model. phase: "prefill" (one request's prompt) or "decode" (one token of every running request).

    num_tokens: tokens computed. emitted: (request_id, token id), one each at most. finished: ids that ended in this step;
    a cancelled request never appears in it.
    """

    index: int
    phase: str
    start_ns: int
    end_ns: int
    num_tokens: int
    num_requests: int
    emitted: tuple[tuple[str, int], ...]
    finished: tuple[str, ...]
