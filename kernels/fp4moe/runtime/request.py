"""What is asked of the engine and what a step answers.

In: a request from the caller. Out: a `StepResult` a step, with times from time.perf_counter_ns.
`check_request` says why a request can never be served. Keeps no state; see engine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4moe.errors import EngineError
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
    """One pass through the model.

    phase: "prefill" (one request's prompt) or "decode" (one token of every running request).
    num_tokens: tokens computed. emitted: (request_id, token id), one each at most. finished: ids that ended
    in this step; a cancelled request never appears in it.
    """

    index: int
    phase: str
    start_ns: int
    end_ns: int
    num_tokens: int
    num_requests: int
    emitted: tuple[tuple[str, int], ...]
    finished: tuple[str, ...]


def check_request(request: Request, *, max_context: int, vocab_size: int) -> None:
    """EngineError when the request is empty, does not fit or names tokens that the model has not."""
    place = f"request {request.request_id!r}"
    num_prompt, num_new = len(request.prompt_ids), request.max_new_tokens
    if num_prompt < 1 or num_new < 1:
        raise EngineError(
            f"{place}: must have at least one prompt token and max_new_tokens >= 1 (got {num_prompt} and {num_new})"
        )
    if num_prompt + num_new > max_context:
        raise EngineError(
            f"{place}: prompt and max_new_tokens must fit max_context = {max_context} "
            f"(got {num_prompt + num_new} = {num_prompt} + {num_new}); "
            "shorten the prompt or raise max_context"
        )
    least, most = min(request.prompt_ids), max(request.prompt_ids)
    if least < 0 or most >= vocab_size:
        raise EngineError(
            f"{place}: prompt tokens must be in [0, {vocab_size}) (got {least} to {most}); use this model's tokenizer"
        )
