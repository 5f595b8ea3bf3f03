"""Table of kernel choices: which implementation ran each op at which number of tokens, what was passed over and why.

In: measured cells. Out: Table, a group a (target, model). Rows that say the same print once.
"""

from collections.abc import Sequence

from harness.crossovers import show_crossovers
from harness.report.cells import MeasuredCell
from harness.report.grid import Entry, Group, Table, table

HEADERS = ("Weights × activations", "Op", "Chosen, by tokens of a call", "Refused, and why")


def choices_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row an op of each precision."""
    groups: dict[str, dict[tuple[Entry, ...], None]] = {}
    for cell in cells:
        rows = groups.setdefault(f"{cell.target} · {cell.model}", {})
        rows |= {_row(cell, choice): None for choice in cell.first.get("implementation") or ()}
    caption = "The implementation that ran each op, and the candidates passed over."
    return table(caption, HEADERS, [Group(label, tuple(rows)) for label, rows in groups.items()])


def _row(cell: MeasuredCell, choice: dict) -> tuple[Entry, ...]:
    refused = "; ".join(f"{item['name']}: {item['reason']}" for item in choice.get("refused") or ())
    is_slow = choice.get("is_reference") and choice["op"] != "route"
    return (
        Entry(cell.name, detail="" if cell.method == "none" else f"method {cell.method}", tone="head"),
        Entry(choice["op"]),
        Entry(show_crossovers(choice), detail="not FP4's speed" if is_slow else _source(choice)),
        Entry(refused or "none refused", tone="text" if refused else "muted"),
    )


def _source(choice: dict) -> str:
    """Where several implementations share an op: why they meet at that number of tokens."""
    return "; ".join([choice["source"], *choice["notes"]]) if len(choice.get("crossovers") or ()) > 1 else ""
