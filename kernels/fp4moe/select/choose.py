"""The first implementation in the table that runs, with the reason for every other one.

In: operation, weight format, activation format, capability. Out: `Choice`; or a SelectionError that lists
every refusal and a next step. Never falls back silently: the reference is a row like any other and can be
disallowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.select.table import IMPLEMENTATIONS, Implementation

_REFERENCE_HINT = "allowed (slow); choose it with --set kernels.allow_reference=true"


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
    table: Sequence[Implementation] = IMPLEMENTATIONS,
) -> tuple[tuple[Implementation, str | None], ...]:
    """Every row of `op` in order of preference, with None where it runs and the reason where it does not."""
    return tuple((row, _refusal(row, weights, activations, capability, tokens=tokens)) for row in table if row.op == op)


def choose(
    op: str,
    weights: str,
    activations: str,
    capability: Capability,
    *,
    tokens: int | None = None,
    allow_reference: bool = True,
    table: Sequence[Implementation] = IMPLEMENTATIONS,
) -> Choice:
    """The first row that runs; `tokens` is the most a call will have, None when any number may come.

    Raises SelectionError, with the layout of a list, when no row runs.
    """
    chosen: Implementation | None = None
    refused: list[tuple[str, str]] = []
    for row, reason in explain(op, weights, activations, capability, tokens=tokens, table=table):
        if reason is None and row.is_reference and not allow_reference:
            reason = _REFERENCE_HINT if chosen is None else "not allowed"
        if reason is None and chosen is None:
            chosen = row
        else:
            refused.append((row.name, reason or f"runs here, but {chosen.name} comes first"))
    if chosen is None:
        raise SelectionError(_nothing_runs(op, weights, refused, table))
    return Choice(op, chosen, tuple(refused))


def _refusal(row: Implementation, weights: str, activations: str, capability: Capability, *, tokens: int | None) -> str | None:
    if weights not in row.weight_formats:
        return f"takes weights in {_listed(row.weight_formats)}, not {weights}"
    if activations not in row.activation_formats:
        return f"takes activations in {_listed(row.activation_formats)}, not {activations}"
    for condition in row.capabilities:
        reason = condition.refusal(capability)
        if reason is not None:
            return reason
    if row.max_tokens is not None and (tokens is None or tokens > row.max_tokens):
        asked = "any number may come" if tokens is None else f"{tokens} may come"
        return f"takes at most {row.max_tokens} tokens a call, {asked}"
    return None


def _nothing_runs(op: str, weights: str, refused: Sequence[tuple[str, str]], table: Sequence[Implementation]) -> str:
    if not refused:
        known = ", ".join(dict.fromkeys(row.op for row in table))
        return f"op: must be one of {known} (got {op!r})"
    lines = [f"no implementation of {op} for {weights} runs here:"]
    return "\n".join(lines + [f"  {name}: {reason}" for name, reason in refused])


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names)
