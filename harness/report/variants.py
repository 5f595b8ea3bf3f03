"""Variants: the cells of one (target, model, backend, precision), which share their weights in memory.

In: MeasuredCell rows. Out: Variant groups, each with its heldout cell, its request cells and its BF16
baseline. Speed of one model is never set against the quality of another, because a variant has one model.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.report.cells import FP4_FORMATS, MeasuredCell, Number

EXPERT_PARTS = ("expert_codes_bytes", "expert_scales_bytes", "expert_tensor_scales_bytes")


@dataclass(frozen=True, slots=True)
class Variant:
    """Cells of one (target, model, backend, precision), never empty."""

    cells: tuple[MeasuredCell, ...]

    @property
    def head(self) -> MeasuredCell:
        return self.cells[0]

    @property
    def group(self) -> tuple[str, str, str]:
        return self.head.target, self.head.model, self.head.backend

    @property
    def is_baseline(self) -> bool:
        precision = self.head.precision
        return precision["weights"] == "bf16" and precision["activations"] == "bf16"

    @property
    def is_fp4(self) -> bool:
        return self.head.weights in FP4_FORMATS

    @property
    def heldout(self) -> MeasuredCell | None:
        return next((cell for cell in self.cells if cell.is_heldout), None)

    @property
    def requests(self) -> tuple[MeasuredCell, ...]:
        return tuple(cell for cell in self.cells if not cell.is_heldout)

    def quality(self, metric: str) -> Number:
        """A metric of the heldout cell, or the reason that there is none."""
        if self.heldout is not None:
            return self.heldout.number(metric)
        return Number(None, reason=self._why_no_heldout())

    def anywhere(self, metric: str) -> Number:
        """A metric from the first cell that has it (memory of the weights is the same in all)."""
        numbers = [cell.number(metric) for cell in self.cells]
        return next((number for number in numbers if number.median is not None), numbers[0])

    def expert_bytes(self) -> Number:
        """Bytes of the experts with their scales; only BF16 may have none, and any format no tensor scale."""
        parts = [self.anywhere(name) for name in EXPERT_PARTS]
        needed = parts[:1] if self.head.weights == "bf16" else parts[:2]
        missing = next((part for part in needed if part.median is None), None)
        if missing is not None:
            return missing
        total = sum(part.median or 0 for part in parts)
        return Number(total, total, total, parts[0].num_repeats, parts[0].num_samples, "bytes")

    def _why_no_heldout(self) -> str:
        if self.head.weights_source == "random":
            return "random weights carry no perplexity"
        for drop in self.head.run.plan.get("dropped") or ():
            precision, workload = drop.get("precision"), str(drop.get("workload"))
            identity = precision.get("id") if isinstance(precision, dict) else precision
            same = drop.get("model") == self.head.model and identity == self.head.precision.get("id")
            if same and "heldout" in workload:
                return f"the heldout cell was dropped: {drop.get('reason')}"
        return "no heldout cell for this precision in this run"


def variants(cells: Iterable[MeasuredCell]) -> tuple[Variant, ...]:
    """Group cells, keeping their order; within one (target, model, backend) BF16 comes first."""
    groups: dict[tuple, dict[str, list[MeasuredCell]]] = {}
    for cell in cells:
        by_precision = groups.setdefault((cell.target, cell.model, cell.backend), {})
        by_precision.setdefault(cell.precision.get("id") or f"{cell.name} {cell.method}", []).append(cell)
    ordered = []
    for by_precision in groups.values():
        members = [Variant(tuple(found)) for found in by_precision.values()]
        ordered += sorted(members, key=lambda variant: not variant.is_baseline)
    return tuple(ordered)


def baseline_of(variant: Variant, everyone: Iterable[Variant]) -> Variant | None:
    """The BF16 x BF16 variant of the same target, model and backend."""
    return next((other for other in everyone if other.is_baseline and other.group == variant.group), None)
