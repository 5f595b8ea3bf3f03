"""A stretch of a prompt: what schedule.py plans and attention.py computes. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one prompt in a step: tokens start .. start + count - 1 of the request in `slot`."""

    slot: int
    start: int
    count: int

    @property
    def end(self) -> int:
        """Tokens of the slot that this step's queries may see."""
        return self.start + self.count
