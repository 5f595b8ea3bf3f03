"""The shape of a MoE layer, and which shapes an implementation takes, with the reason in words.

In: `MoeShape`. Out: None when a shape is taken, else "needs hidden a multiple of 128 (got 100)". Nothing here looks at a
device or imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MoeShape:
    """One MoE layer: down is [num_experts, hidden, intermediate], gate and up [num_experts, 2 intermediate, hidden]."""

    hidden: int
    intermediate: int
    num_experts: int
    top_k: int

    def __str__(self) -> str:
        return f"hidden {self.hidden}, intermediate {self.intermediate}, {self.num_experts} experts, top-{self.top_k}"


@dataclass(frozen=True, slots=True)
class ShapeLimits:
    """What a row asks of the shape; None is no limit."""

    hidden_multiple: int | None = None
    intermediate_multiple: int | None = None
    max_hidden: int | None = None
    max_experts: int | None = None
    max_top_k: int | None = None
    max_intermediate: int | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Each limit as a noun phrase, for tables."""
        return tuple(need for need, _, _ in self._rules(None))

    def refusal(self, shape: MoeShape) -> str | None:
        """The first limit that `shape` breaks, or None."""
        for need, found, is_met in self._rules(shape):
            if not is_met:
                return f"needs {need} (got {found})"
        return None

    def _rules(self, shape: MoeShape | None) -> list[tuple[str, int | None, bool]]:
        multiples = (("hidden", self.hidden_multiple), ("intermediate", self.intermediate_multiple))
        most = (
            ("hidden", self.max_hidden),
            ("intermediate", self.max_intermediate),
            ("num_experts", self.max_experts),
            ("top_k", self.max_top_k),
        )
        words = {"num_experts": "experts", "top_k": "experts a token"}
        rules = []
        for name, multiple in multiples:
            if multiple is not None:
                found = None if shape is None else getattr(shape, name)
                rules.append((f"{name} a multiple of {multiple}", found, found is None or found % multiple == 0))
        for name, limit in most:
            if limit is not None:
                found = None if shape is None else getattr(shape, name)
                rules.append((f"at most {limit} {words.get(name, name)}", found, found is None or found <= limit))
        return rules


ANY_SHAPE = ShapeLimits()
