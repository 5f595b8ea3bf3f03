"""Which ceilings a limit of a cell is computed from, and how good they are.

In: a measured cell, all cells of the report. Out: `FoundCeilings`, or the reasons that there are none. SOURCES is in order of
preference: measured on this device in this run, measured on a GPU of the same kind, the data sheet. Nothing is measured here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.device import gpu_table
from harness.kernel_bench.limits import Ceilings
from harness.project.curves import data_file
from harness.project.gpus import gpu_spec
from harness.report.cells import MeasuredCell
from harness.report.numbers import significant
from harness.report.tables.profile import blocks


@dataclass(frozen=True, slots=True)
class FoundCeilings:
    """`source` says in words where they come from; `is_measured` is False for a data sheet."""

    ceilings: Ceilings
    source: str
    is_measured: bool

    def text(self, activations: str) -> str:
        """`3 136 GB/s, 702 TFLOP/s (bf16), measured in this run`."""
        kind = self.ceilings.product_kind(activations)
        read, product = significant(self.ceilings.best_read_gb_s), significant(self.ceilings.product_tflops[kind])
        return f"{read} GB/s, {product} TFLOP/s ({kind}), {self.source}"


def ceilings_for(cell: MeasuredCell, cells: Sequence[MeasuredCell]) -> FoundCeilings | str:
    """The first source that has them, else the reasons against each."""
    reasons = []
    for find in SOURCES:
        found = find(cell, cells)
        if isinstance(found, FoundCeilings):
            return found
        reasons.append(found)
    return f"no ceilings: {'; '.join(reasons)}"


def _of_the_run(cell: MeasuredCell, cells: Sequence[MeasuredCell]) -> FoundCeilings | str:
    ours = [other for other in cells if (other.run, other.target) == (cell.run, cell.target)]
    for _, block in blocks(ours):
        if (block.get("facts") or {}).get("ceilings"):
            row = block["facts"]["ceilings"]
            return FoundCeilings(Ceilings(row["read_gb_s"], row["product_tflops"]), "measured in this run", is_measured=True)
    return "not measured in this run (`harness profile` measures them)"


def _of_the_kind(cell: MeasuredCell, _: Sequence[MeasuredCell]) -> FoundCeilings | str:
    name = _gpu_of(cell)
    for curve in data_file("calibration.json")["curves"]:
        if curve["gpu"] == name:
            source = f"measured on another {name} ({curve['source']}), not in this run"
            made = Ceilings({"best": curve["read_gb_s"]}, curve["product_tflops"])
            return FoundCeilings(made, source, is_measured=True)
    return f"no measured ceilings of {name or cell.target} ship with the harness"


def _of_the_data_sheet(cell: MeasuredCell, _: Sequence[MeasuredCell]) -> FoundCeilings | str:
    name = _gpu_of(cell)
    if name is None:
        return "and data/gpus.yaml has no data sheet of it"
    spec = gpu_spec(name)
    source = f"DATA SHEET, not measured ({spec.source})"
    return FoundCeilings(Ceilings({"data sheet": spec.read_gb_s}, spec.product_tflops), source, is_measured=False)


SOURCES: tuple[Callable[[MeasuredCell, Sequence[MeasuredCell]], FoundCeilings | str], ...] = (
    _of_the_run,
    _of_the_kind,
    _of_the_data_sheet,
)


def _gpu_of(cell: MeasuredCell) -> str | None:
    """The key of data/gpus.yaml; None for a CPU or a GPU that is not in it."""
    return next((name for name in gpu_table() if name.lower().replace(" ", "-") == cell.target_kind), None)
