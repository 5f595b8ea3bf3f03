"""The preference among rows of one layout as a function of the number of tokens.

In: rows that run here, in the table's order, and those that were tuned for up to some number of tokens. Out: what is picked
at a number of tokens, and the ranges over which that does not change. Knows nothing of devices and formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4moe.select.implementation import Implementation
from fp4moe.select.limits import MoeShape
from fp4moe.select.refusals import tokens_refusal

Wanted = tuple[int | None, Implementation]
"""(most tokens or None, the row that was measured to be the fastest up to there)."""


@dataclass(frozen=True, slots=True)
class Order:
    """`running` must hold a row that takes any number of tokens."""

    wanted: tuple[Wanted, ...]
    running: tuple[Implementation, ...]
    shape: MoeShape

    @classmethod
    def of_layout(cls, layout: str, wanted: Sequence[Wanted], running: Sequence[Implementation], shape: MoeShape) -> Order:
        """The rows that share `layout`."""
        same = tuple((limit, row) for limit, row in wanted if row.layout == layout)
        return cls(same, tuple(row for row in running if row.layout == layout), shape)

    def pick(self, tokens: int) -> Implementation:
        """The tuned row for so many tokens if it takes them, else the first of the table that does."""
        tuned = [row for limit, row in self.wanted if limit is None or tokens <= limit]
        rows = [*tuned, *self.running]
        return next(row for row in rows if tokens_refusal(row, tokens, self.shape) is None)

    def ranges(self) -> tuple[Wanted, ...]:
        """(last number of tokens or None, what is picked up to there), ascending; neighbors differ."""
        limits = self._limits()
        beyond = limits[-1] + 1 if limits else 1
        picked = [(limit, self.pick(limit)) for limit in limits] + [(None, self.pick(beyond))]
        following = [row for _, row in picked[1:]] + [None]
        return tuple(item for item, after in zip(picked, following, strict=True) if item[1] is not after)

    def _limits(self) -> list[int]:
        """Numbers of tokens after which another row may be picked."""
        found = {limit for limit, _ in self.wanted} | {row.token_limit(self.shape) for row in self.running}
        found |= {row.min_tokens - 1 for row in self.running}
        return sorted(limit for limit in found if limit)
