"""Why a row does not run: one question to each of its fields, answered in words.

In: a row, and what is asked for (`Question`). Out: the first reason, or None. The order is from what a user would have to
change most to what least: formats, device, shape, tools; then the number of tokens of a call, apart, since it changes from
call to call.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4moe.select.capability import Capability
from fp4moe.select.environment import COMPLETE, Environment
from fp4moe.select.implementation import Implementation
from fp4moe.select.limits import MoeShape


@dataclass(frozen=True, slots=True)
class Question:
    """What must be computed and where. `shape` None: not known, so no limit on it is judged."""

    weights: str
    activations: str
    capability: Capability
    shape: MoeShape | None = None
    environment: Environment = COMPLETE


def refusal(row: Implementation, question: Question) -> str | None:
    """Why `row` runs in no call here, or None."""
    return (
        _format_refusal(row, question.weights, question.activations)
        or _device_refusal(row, question)
        or (None if question.shape is None else row.limits.refusal(question.shape))
        or question.environment.refusal(row.needs)
    )


def tokens_refusal(row: Implementation, tokens: int | None, shape: MoeShape | None) -> str | None:
    """Why a call of `tokens` tokens (None: of any number) is none for `row`, or None."""
    limit = row.token_limit(shape)
    if limit is not None and (tokens is None or tokens > limit):
        if row.max_slots is not None and shape is None:
            return f"takes at most {row.max_slots} tokens x top_k a call, and top_k is not known"
        asked = "any number may come" if tokens is None else f"{tokens} may come"
        return f"takes at most {limit} tokens a call, {asked}"
    if row.min_tokens > 1 and (tokens is None or tokens < row.min_tokens):
        asked = "fewer may come" if tokens is None else f"{tokens} may come"
        return f"takes at least {row.min_tokens} tokens a call, {asked}"
    return None


def _format_refusal(row: Implementation, weights: str, activations: str) -> str | None:
    if weights not in row.weight_formats:
        return f"takes weights in {' or '.join(row.weight_formats)}, not {weights}"
    if activations not in row.activation_formats:
        return f"takes activations in {' or '.join(row.activation_formats)}, not {activations}"
    if row.pairs is not None and (weights, activations) not in row.pairs:
        pairs = ", ".join(f"{w} x {a}" for w, a in row.pairs)
        return f"takes {pairs}; not {weights} x {activations}"
    return None


def _device_refusal(row: Implementation, question: Question) -> str | None:
    more = tuple(condition for activations, condition in row.more_for if activations == question.activations)
    reasons = (condition.refusal(question.capability) for condition in row.capabilities + more)
    return next((reason for reason in reasons if reason is not None), None)
