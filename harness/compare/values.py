"""The repeats of one metric of one cell: finite numbers by repeat, or why there are none.

In: a measured cell. Out: `Values`. A NaN in a record is named, never averaged; a record that is INVALID gives no number.
"""

import math
from dataclasses import dataclass, replace

from harness.metrics import METRICS
from harness.report.cells import MeasuredCell


@dataclass(frozen=True, slots=True)
class Values:
    """`by_repeat` holds one number a repeat; `problem` says why a metric cannot be judged on this side."""

    by_repeat: dict[int, float]
    unit: str
    problem: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[float]:
        return list(self.by_repeat.values())

    def refused_for(self, reason: str | None) -> "Values":
        """The same, not to be judged for this reason; a problem that it already has comes first."""
        return self if reason is None or self.problem else replace(self, problem=reason)


def values_of(cell: MeasuredCell, metric: str) -> Values:
    """Numbers of a metric over the valid repeats of a cell."""
    found, reasons, notes = {}, [], []
    for record in cell.records:
        repeat = record.get("repeat", 0)
        if record["verdict"]["state"] == "INVALID":
            notes.append(f"repeat {repeat} is INVALID and left out")
            continue
        entry = (record.get("metrics") or {}).get(metric)
        value = None if entry is None else entry.get("value")
        if value is None:
            reasons.append((entry or {}).get("reason") or f"{metric} is not in the record")
        elif not isinstance(value, int | float) or not math.isfinite(value):
            return Values({}, unit_of(metric, entry), f"repeat {repeat} holds {value}, which is not a finite number")
        else:
            found[repeat] = float(value)
    notes += [f"{len(cell.failures)} of its repeats failed ({cell.error})"] if cell.failures else []
    entry = _first_entry(cell, metric)
    if found:
        missing = [f"{metric} is missing in {len(reasons)} repeats: {reasons[0]}"] if reasons else []
        return Values(found, unit_of(metric, entry), None, (*notes, *missing))
    return Values({}, unit_of(metric, entry), _why_none(cell, reasons, notes), tuple(notes))


def unit_of(metric: str, entry: dict | None) -> str:
    """As recorded, else as defined."""
    if entry and entry.get("unit"):
        return entry["unit"]
    return METRICS[metric].unit if metric in METRICS else ""


def _first_entry(cell: MeasuredCell, metric: str) -> dict | None:
    entries = ((record.get("metrics") or {}).get(metric) for record in cell.records)
    return next((entry for entry in entries if entry), None)


def _why_none(cell: MeasuredCell, reasons: list[str], notes: list[str]) -> str:
    if not cell.records:
        return f"every repeat failed ({cell.error})" if cell.error else "there is no record"
    if reasons:
        return reasons[0]
    return "every repeat is INVALID: " + ("; ".join(cell.reasons) or notes[0])
