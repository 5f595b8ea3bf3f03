"""One row of the table of implementations: what it computes, takes and needs, as data.

A row decides nothing (see choose.py) and imports nothing until `load` or `load_pack` is called: `target` and `pack` are
"module:object". Formats are keys of formats.WEIGHT_FORMATS and ACTIVATION_FORMATS.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fp4moe.select.conditions import Condition
from fp4moe.select.limits import ANY_SHAPE, MoeShape, ShapeLimits

REFERENCE = "reference"
ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Implementation:
    """One row. `capabilities`: conditions that must all hold; `more_for`: one more for one activation format.

    pairs: the (weights, activations) it takes where not every combination of the two lists is; None for all of them.
    min_tokens, max_tokens, max_slots (tokens x top_k): what one call may have. layout: the form of the weights; pack makes
    it from the stored rows. limits: the shapes it takes. needs: tools (environment.REASONS) for building it at first use.
    rounds: names of reference roundings beyond the activation format (see rounding.py). rounds_weights: the function that
    gives the stored weights as this row multiplies them, where that is not exact: a check compares with the reference on those.
    """

    op: str
    name: str
    weight_formats: tuple[str, ...]
    activation_formats: tuple[str, ...]
    capabilities: tuple[Condition, ...]
    target: str
    note: str = ""
    min_tokens: int = 1
    max_tokens: int | None = None
    max_slots: int | None = None
    layout: str = ROWS
    pack: str | None = None
    limits: ShapeLimits = ANY_SHAPE
    source_files: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] | None = None
    more_for: tuple[tuple[str, Condition], ...] = ()
    needs: tuple[str, ...] = ()
    rounds: tuple[str, ...] = ()
    rounds_weights: str | None = None

    @property
    def is_reference(self) -> bool:
        """Plain torch: right everywhere, fast nowhere. Its speed is not the format's speed."""
        return self.name == REFERENCE

    @property
    def takes_any_number(self) -> bool:
        """Whether a call may have any number of tokens."""
        return self.min_tokens <= 1 and self.max_tokens is None and self.max_slots is None

    def formats(self) -> tuple[tuple[str, str], ...]:
        """Every (weights, activations) it takes."""
        return self.pairs or tuple((w, a) for w in self.weight_formats for a in self.activation_formats)

    def token_limit(self, shape: MoeShape | None) -> int | None:
        """Most tokens of a call; None where there is no limit. A limit on slots needs the shape: without one it is 0."""
        limits = [] if self.max_tokens is None else [self.max_tokens]
        if self.max_slots is not None:
            limits.append(0 if shape is None else self.max_slots // shape.top_k)
        return min(limits, default=None)

    def load(self) -> Any:
        """Import and return the function that `target` names."""
        return _load(self.target)

    def load_pack(self) -> Any:
        """Import and return the function that makes this row's layout; None where that is the stored rows."""
        return None if self.pack is None else _load(self.pack)

    def load_rounded(self) -> Any:
        """Import and return the function that `rounds_weights` names, QuantizedTensor to QuantizedTensor; else the identity."""
        return _load(self.rounds_weights) if self.rounds_weights else lambda weights: weights


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
