"""The first implementation in the table that runs, with the reason for every other one.

In: operation, weight format, activation format, capability; shape and tools where known. Out: `Choice`; or a SelectionError
that lists every refusal and a next step. Never falls back silently: the reference is a row like any other and can be
disallowed. One choice a number of tokens is by_tokens.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.select.environment import COMPLETE, Environment
from fp4moe.select.implementation import Implementation
from fp4moe.select.limits import MoeShape
from fp4moe.select.refusals import Question, refusal, tokens_refusal
from fp4moe.select.table import IMPLEMENTATIONS

REFERENCE_HINT = "allowed (slow); choose it with --set kernels.allow_reference=true"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for an operation. `refused`: (name, reason) of the other rows, in the table's order."""

    op: str
    chosen: Implementation
    refused: tuple[tuple[str, str], ...]

    @property
    def is_reference(self) -> bool:
        """Whether the plain-torch definition was chosen."""
        return self.chosen.is_reference


def explain(
    op: str,
    weights: str,
    activations: str,
    capability: Capability,
    *,
    tokens: int | None = None,
    shape: MoeShape | None = None,
    environment: Environment = COMPLETE,
    table: Sequence[Implementation] = IMPLEMENTATIONS,
) -> tuple[tuple[Implementation, str | None], ...]:
    """Every row of `op` in order of preference, with None where it runs and the reason where it does not."""
    question = Question(weights, activations, capability, shape, environment)
    rows = (row for row in table if row.op == op)
    return tuple((row, refusal(row, question) or tokens_refusal(row, tokens, shape)) for row in rows)


def choose(
    op: str,
    weights: str,
    activations: str,
    capability: Capability,
    *,
    tokens: int | None = None,
    shape: MoeShape | None = None,
    environment: Environment = COMPLETE,
    allow_reference: bool = True,
    table: Sequence[Implementation] = IMPLEMENTATIONS,
) -> Choice:
    """The first row that runs; `tokens` is the most a call will have, None when any number may come.

    Raises SelectionError, with the layout of a list, when no row runs.
    """
    question = {"tokens": tokens, "shape": shape, "environment": environment, "table": table}
    chosen: Implementation | None = None
    refused: list[tuple[str, str]] = []
    for row, reason in explain(op, weights, activations, capability, **question):
        if reason is None and row.is_reference and not allow_reference:
            reason = REFERENCE_HINT if chosen is None else "not allowed"
        if reason is None and chosen is None:
            chosen = row
        else:
            refused.append((row.name, reason or f"runs here, but {chosen.name} comes first"))
    if chosen is None:
        raise SelectionError(nothing_runs(op, weights, refused, table))
    return Choice(op, chosen, tuple(refused))


def nothing_runs(op: str, weights: str, refused: Sequence[tuple[str, str]], table: Sequence[Implementation]) -> str:
    """The message for an operation that no row computes here."""
    if not refused:
        known = ", ".join(dict.fromkeys(row.op for row in table))
        return f"op: must be one of {known} (got {op!r})"
    lines = [f"no implementation of {op} for {weights} runs here:"]
    return "\n".join(lines + [f"  {name}: {reason}" for name, reason in refused])
