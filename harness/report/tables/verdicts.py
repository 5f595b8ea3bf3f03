"""Tables of verdicts: every cell with its state and reasons, failed repeats, dropped cells, cells not run.

In: measured cells and runs. Out: Tables.
"""

from collections.abc import Sequence

from harness.drops import group_drops
from harness.report.cells import MeasuredCell
from harness.report.data import LoadedRun
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import significant
from harness.report.tables.summary import MARKS


def cells_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a cell: verdict, repeats, correctness check, hash of the weights."""
    notes = Footnotes()
    groups: dict[str, list] = {}
    for cell in cells:
        reasons = "; ".join(cell.reasons) or ("" if cell.records else cell.error)
        repeats = f"{len(cell.records)} ok" + (f", {len(cell.failures)} failed" if cell.failures else "")
        row = (
            Entry(cell.cell_id, tone="code"),
            Entry(f"{MARKS[cell.state]} {cell.state}", tone=cell.state.lower()),
            Entry(reasons or "no reservation", tone="" if reasons else "muted"),
            Entry(repeats),
            _check(cell, notes),
            _weights(cell),
        )
        groups.setdefault(cell.target, []).append(row)
    return table(
        "Verdict on every cell: the worst of its repeats, with the reasons.",
        ("Cell", "Verdict", "Reasons", "Repeats", "Correctness check", "Weights"),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
        notes,
    )


def _check(cell: MeasuredCell, notes: Footnotes) -> Entry:
    check = cell.first.get("check")
    if not check:
        return notes.dash("no correctness check is in the record" if cell.records else "the cell failed")
    error, bound = check.get("relative_error"), check.get("bound")
    word = "passed" if check.get("passed") else "FAILED"
    numbers = f"error {significant(error)}, bound {significant(bound)}" if error is not None and bound is not None else ""
    against = f"against {check['against']}" if check.get("against") else ""
    return Entry(
        word,
        detail=", ".join(filter(None, (numbers, against))),
        tone="" if check.get("passed") else "invalid",
    )


def _weights(cell: MeasuredCell) -> Entry:
    sha = (cell.first.get("weights") or {}).get("sha256") or ""
    return Entry(cell.weights_source, detail=sha[:12])


def failed_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a failed repeat, with its error."""
    rows = []
    for cell in cells:
        for record in cell.failures:
            error = record.get("error") or {}
            rows.append(
                (
                    Entry(cell.cell_id, tone="code"),
                    Entry(cell.target),
                    Entry(str(record.get("repeat", 0))),
                    Entry(error.get("kind", "unknown")),
                    Entry(error.get("message", "no message was recorded")),
                )
            )
    return table(
        "Failed repeats. They give no figure.",
        ("Cell", "Target", "Repeat", "Error", "Message"),
        [Group("", tuple(rows))],
    )


def dropped_table(runs: Sequence[LoadedRun]) -> Table:
    """A row for the cells of one model that the plan dropped for one reason."""
    groups = []
    for run in runs:
        rows = tuple(
            tuple(
                Entry(text)
                for text in (g.model, ", ".join(g.precisions), ", ".join(g.workloads), ", ".join(g.targets), g.reason)
            )
            for g in group_drops(run.plan.get("dropped") or ())
        )
        groups.append(Group(f"Run {run.run_id}" if len(runs) > 1 else "", rows))
    return table(
        "Cells that the plan dropped before running.",
        ("Model", "Precision", "Workload", "Target", "Reason"),
        groups,
    )


def not_run_table(runs: Sequence[LoadedRun]) -> Table:
    """A row a planned cell without any record."""
    groups = []
    for run in runs:
        done = {record["cell_id"] for record in run.records}
        rows = tuple(
            (Entry(cell["cell_id"], tone="code"),) for cell in run.plan.get("cells") or () if cell["cell_id"] not in done
        )
        groups.append(Group(f"Run {run.run_id}" if len(runs) > 1 else "", rows))
    return table("Planned cells without a record; `harness run --resume` runs them.", ("Cell",), groups)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("label") or value.get("name") or value)
    return "any" if value is None else str(value)
