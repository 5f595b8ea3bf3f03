"""Dropped cells for people: those that share a model and a reason become one line.

In: the `dropped` rows of run.json's plan. Out: `DropGroup`s in the order of the plan. run.json keeps every cell.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DropGroup:
    """Cells of one model dropped for one reason."""

    model: str
    reason: str
    precisions: tuple[str, ...]
    workloads: tuple[str, ...]
    targets: tuple[str, ...]
    num_cells: int

    @property
    def line(self) -> str:
        """`mixtral-8x7b, 9 cells on h100: needs H100; ...`"""
        cells = "1 cell" if self.num_cells == 1 else f"{self.num_cells} cells"
        return f"{self.model}, {cells} on {', '.join(self.targets)}: {self.reason}"


def drop_lines(rows: Iterable[dict]) -> str:
    """The groups as lines that are set in, for an error that lists them."""
    return "\n".join(f"  {group.line}" for group in group_drops(rows))


def group_drops(rows: Iterable[dict]) -> list[DropGroup]:
    """Group by (model, reason)."""
    together: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        together.setdefault((row["model"], row["reason"]), []).append(row)
    return [
        DropGroup(
            model,
            reason,
            _unique(row["precision"]["label"] for row in members),
            _unique(row["workload"]["name"] for row in members),
            _unique(row["target"] for row in members),
            len(members),
        )
        for (model, reason), members in together.items()
    ]


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
