"""Table of definitions: every metric that the records carry, as harness/metrics defines it.

In: measured cells. Out: Table, or None where harness.metrics is not installed.
"""

from collections.abc import Sequence

from harness.report.cells import MeasuredCell
from harness.report.grid import Entry, Group, Table, table

HEADERS = ("Metric", "Unit", "Better", "Definition", "Formula")
BETTER = {"none": "not judged"}


def definitions_table(cells: Sequence[MeasuredCell]) -> Table | None:
    """A row a metric, in the order of the records."""
    try:
        from harness.metrics import METRICS
    except ModuleNotFoundError:
        return None
    records = [record for cell in cells for record in cell.records]
    used = dict.fromkeys(name for record in records for name in record.get("metrics") or {})
    rows = tuple(_row(name, METRICS.get(name)) for name in used)
    return table("Definition of every metric in these records.", HEADERS, [Group("", rows)], folded=True)


def _row(name: str, metric) -> tuple[Entry, ...]:
    code = Entry(name, tone="code")
    if metric is None:
        unknown = Entry("not defined in harness/metrics", tone="muted")
        return (code, Entry(""), Entry(""), unknown, Entry(""))
    unit = "" if metric.unit == "1" else metric.unit
    better = Entry(BETTER.get(metric.direction, metric.direction))
    formula = Entry(getattr(metric, "formula", ""), tone="text")
    return (code, Entry(unit), better, Entry(metric.definition, tone="text"), formula)
