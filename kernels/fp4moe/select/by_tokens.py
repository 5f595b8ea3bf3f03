"""One implementation for each range of tokens, all on one layout of the weights.

In: operation, formats, capability, shape, what was tuned, tools. Out: `ChoiceByTokens`, decided before a weight is read; a
call then picks by its number of tokens, which the host knows. Weights are packed once, so the rows of a choice share a
layout: that of the best row that takes any number of tokens (the tuned one where it runs here, else the first of the
table). A row that was tuned and does not run here is skipped, and said so. One kernel can be forced by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.select.choose import REFERENCE_HINT, Choice, nothing_runs
from fp4moe.select.environment import COMPLETE, Environment
from fp4moe.select.implementation import Implementation
from fp4moe.select.limits import MoeShape
from fp4moe.select.order import Order, Wanted
from fp4moe.select.refusals import Question, refusal, tokens_refusal
from fp4moe.select.table import IMPLEMENTATIONS
from fp4moe.select.tuned import Tuned

DEFAULT_ORDER = "the table's order; not measured on this GPU for this shape"
Reasons = dict[str, str | None]
"""Row -> why it runs in no call here, None where it does."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """`choice` holds for up to `max_tokens` tokens (None: any number) beyond the crossover before it."""

    max_tokens: int | None
    choice: Choice


@dataclass(frozen=True, slots=True)
class ChoiceByTokens:
    """What runs an operation. `refused`: (name, reason) of the rows that no number of tokens takes.

    source: where the crossovers come from. notes: what the tuned table asked for and could not be had. call_tokens: a row
    that was forced beyond its limit is called with this many tokens at a time; None where there is no limit.
    """

    op: str
    layout: str
    crossovers: tuple[Crossover, ...]
    refused: tuple[tuple[str, str], ...]
    source: str = DEFAULT_ORDER
    notes: tuple[str, ...] = ()
    call_tokens: int | None = None

    @property
    def chosen(self) -> Implementation:
        """The row that takes the largest calls."""
        return self.crossovers[-1].choice.chosen

    @property
    def rows(self) -> tuple[Implementation, ...]:
        """Every row that some number of tokens takes, fewest tokens first."""
        return tuple(dict.fromkeys(crossover.choice.chosen for crossover in self.crossovers))

    @property
    def is_reference(self) -> bool:
        """Whether some number of tokens takes the plain-torch definition."""
        return any(row.is_reference for row in self.rows)

    def at(self, tokens: int) -> Choice:
        """What a call of `tokens` tokens takes."""
        return next(c.choice for c in self.crossovers if c.max_tokens is None or tokens <= c.max_tokens)


def choose_by_tokens(
    op: str,
    weights: str,
    activations: str,
    capability: Capability,
    *,
    shape: MoeShape,
    tuned: Tuned | None = None,
    allow_reference: bool = True,
    environment: Environment = COMPLETE,
    implementation: str | None = None,
    table: Sequence[Implementation] = IMPLEMENTATIONS,
) -> ChoiceByTokens:
    """The choice for every number of tokens; `implementation` forces one row, where `op` has one of that name.

    Raises SelectionError when nothing runs every call, and when the forced row does not run here or is not known.
    """
    question = Question(weights, activations, capability, shape, environment)
    rows = [row for row in table if row.op == op]
    reasons = {row.name: refusal(row, question) for row in rows}
    if not allow_reference:
        _disallow_reference(rows, reasons)
    if implementation is not None:
        check_name(implementation, table)
        if implementation in reasons:
            return _forced(next(row for row in rows if row.name == implementation), rows, reasons, shape)
    wanted = _tuned_rows(tuned, rows, reasons)
    base = _base(wanted, rows, reasons)
    if base is None:
        refused = [(row.name, reasons[row.name] or tokens_refusal(row, None, shape)) for row in rows]
        raise SelectionError(nothing_runs(op, weights, refused, table))
    return _on_layout_of(base, rows, reasons, wanted=wanted, shape=shape, tuned=tuned)


def check_name(implementation: str, table: Sequence[Implementation] = IMPLEMENTATIONS) -> None:
    """SelectionError with the names that exist when there is no row of this one."""
    names = tuple(dict.fromkeys(row.name for row in table))
    if implementation not in names:
        raise SelectionError(f"kernels.implementation: must be one of {', '.join(names)} (got {implementation!r})")


def _disallow_reference(rows: list[Implementation], reasons: Reasons) -> None:
    kernel_runs = any(reasons[row.name] is None for row in rows if not row.is_reference)
    for row in rows:
        if row.is_reference:
            reasons[row.name] = reasons[row.name] or ("not allowed" if kernel_runs else REFERENCE_HINT)


def _tuned_rows(tuned: Tuned | None, rows: list[Implementation], reasons: Reasons) -> list[Wanted]:
    by_name = {row.name: row for row in rows if reasons[row.name] is None}
    crossovers = () if tuned is None else tuned.crossovers
    return [(limit, by_name[name]) for limit, name in crossovers if name in by_name]


def _base(wanted: list[Wanted], rows: list[Implementation], reasons: Reasons) -> Implementation | None:
    """The best row that takes any number of tokens."""
    candidates = [row for limit, row in wanted if limit is None] + [row for row in rows if reasons[row.name] is None]
    return next((row for row in candidates if row.takes_any_number), None)


def _on_layout_of(
    base: Implementation,
    rows: list[Implementation],
    reasons: Reasons,
    *,
    wanted: list[Wanted],
    shape: MoeShape,
    tuned: Tuned | None,
) -> ChoiceByTokens:
    running = [row for row in rows if reasons[row.name] is None]
    order = Order.of_layout(base.layout, wanted, running, shape)
    other = f"weights are packed once, as {base.layout} for {base.name}"
    reasons = reasons | {row.name: f"takes layout {row.layout}; {other}" for row in running if row.layout != base.layout}
    crossovers = tuple(Crossover(limit, _choice(row, limit, rows, reasons, shape)) for limit, row in order.ranges())
    names = tuple(dict.fromkeys(crossover.choice.chosen.name for crossover in crossovers))
    first = f"runs here, but {' and '.join(names)} {'comes' if len(names) == 1 else 'come'} first"
    refused = tuple(
        (row.name, reasons[row.name] or _slower(row.name, crossovers, tuned) or first) for row in rows if row.name not in names
    )
    return ChoiceByTokens(base.op, base.layout, crossovers, refused, _source(tuned), _notes(tuned, reasons))


def _slower(name: str, crossovers: tuple[Crossover, ...], tuned: Tuned | None) -> str | None:
    """What the measurement says of a row that runs here and is not taken; None where it was not measured."""
    times = {} if tuned is None else tuned.microseconds
    ratios = {}
    for tokens, us in times.get(name, {}).items():
        taken = next(c.choice.chosen.name for c in crossovers if c.max_tokens is None or tokens <= c.max_tokens)
        if tokens in times.get(taken, {}):
            ratios[tokens] = us / times[taken][tokens]
    if not ratios:
        return None
    least, most = min(ratios.values()), max(ratios.values())
    return (
        f"runs here, but took {least:.2f} to {most:.2f} times as long as what is taken, "
        f"at {min(ratios)} to {max(ratios)} tokens on {tuned.gpu}"
    )


def _choice(
    chosen: Implementation, tokens: int | None, rows: list[Implementation], reasons: Reasons, shape: MoeShape
) -> Choice:
    """`chosen` for up to `tokens` tokens, with the reason for every other row."""
    first = f"runs here, but {chosen.name} comes first"
    others = [row for row in rows if row is not chosen]
    refused = ((row.name, reasons[row.name] or tokens_refusal(row, tokens, shape) or first) for row in others)
    return Choice(chosen.op, chosen, tuple(refused))


def _forced(row: Implementation, rows: list[Implementation], reasons: Reasons, shape: MoeShape) -> ChoiceByTokens:
    reason = reasons[row.name] or (tokens_refusal(row, 1, shape) if row.min_tokens > 1 else None)
    if reason is not None:
        running = [other.name for other in rows if reasons[other.name] is None]
        instead = f"; what runs here: {', '.join(running)}" if running else ""
        raise SelectionError(f"kernels.implementation: {row.name} does not run {row.op} here: {reason}{instead}")
    asked = f"runs here, but {row.name} was asked for"
    refused = tuple((other.name, reasons[other.name] or asked) for other in rows if other is not row)
    crossovers = (Crossover(None, Choice(row.op, row, refused)),)
    return ChoiceByTokens(row.op, row.layout, crossovers, refused, "asked for by name", (), row.token_limit(shape))


def _source(tuned: Tuned | None) -> str:
    if tuned is None:
        return DEFAULT_ORDER
    return f"measured on {tuned.gpu}" + (f", {tuned.record}" if tuned.record else "")


def _notes(tuned: Tuned | None, reasons: Reasons) -> tuple[str, ...]:
    """Why a row that was tuned is skipped."""
    names = () if tuned is None else dict.fromkeys(name for _, name in tuned.crossovers)
    skipped = {name: reasons.get(name, "is no longer in the table") for name in names}
    return tuple(f"{name} was tuned for this GPU and is skipped: {reason}" for name, reason in skipped.items() if reason)
