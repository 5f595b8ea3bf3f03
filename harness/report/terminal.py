"""The table of results for the terminal: a row a (precision, workload), within 80 columns.

In: loaded runs. Out: rich.table.Table that holds one table a (target, model). Under each median stands its
min-max over the repeats. A missing value is a dash with a number, and the last lines have its reason.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.cells import REFERENCE_SPEED, MeasuredCell, measured_cells
from harness.report.data import LoadedRun
from harness.report.grid import Entry, Footnotes, range_text
from harness.report.grid import Table as GridTable
from harness.report.numbers import change_decimals, quantity, signed, significant
from harness.report.tables.backends import backends_table
from harness.report.tables.summary import group_label, is_held_against_native
from harness.report.variants import Variant, variants

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# header, alignment, narrowest width: the same in all groups, so that their columns line up
COLUMNS = (
    ("Precision", "left", 12),
    ("Workload", "left", 8),
    ("Output\ntokens/s", "right", 11),
    ("TTFT\nms", "right", 10),
    ("Weights", "right", 7),
    ("Perplexity\nchange", "right", 12),
    ("Verdict", "left", 7),
)
STYLES = {"VALID": "green", "WARN": "yellow", "INVALID": "red", "FAILED": "red"}


def render(runs: Sequence[LoadedRun]) -> "Table":
    """One column of tables; a speed of the reference implementation carries 'ref', spelled out below."""
    from rich.table import Table

    everyone = variants(measured_cells(runs))
    outer, notes = Table.grid(), Footnotes()
    groups: dict[str, list[Variant]] = {}
    for variant in everyone:
        groups.setdefault(group_label(variant, everyone), []).append(variant)
    for label, members in groups.items():
        if outer.row_count:
            outer.add_row("")
        outer.add_row(_text(f"{', '.join(dict.fromkeys(run.scenario_name for run in runs))} · {label}", style="bold"))
        outer.add_row(_group(members, notes))
    outer.add_row(_legend(everyone, notes))
    together = backends_table(everyone)
    if together is not None:
        outer.add_row(_text("\nBackends side by side", style="bold"))
        outer.add_row(_grid(together))
        outer.add_row(_text("\n".join(f"({n}) {text}" for n, text in enumerate(together.footnotes, start=1)), style="dim"))
    return outer


def _grid(table: GridTable) -> "Table":
    """A table of the report, as it is."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, expand=False)
    for header in table.headers:
        shown.add_column(header, overflow="fold")
    for group in table.groups:
        for row in group.rows:
            shown.add_row(*(_text(_words(entry), entry.detail.replace("; ", "\n")) for entry in row))
    return shown


def _words(entry: Entry) -> str:
    note = f" ({entry.footnote})" if entry.footnote else ""
    return f"{entry.text} {entry.unit}".rstrip() + note


def _group(members: list[Variant], notes: Footnotes) -> "Table":
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, expand=False)
    for header, justify, width in COLUMNS:
        shown.add_column(header, justify=justify, min_width=width, overflow="fold")
    for variant in members:
        for cell in variant.requests or (variant.head,):
            shown.add_row(*_row(variant, cell, notes))
    return shown


def _row(variant: Variant, cell: MeasuredCell, notes: Footnotes) -> "list[Text]":
    mark = " ref" if cell.is_reference else ""
    speeds = [_number(cell, metric, mark, notes) for metric in ("output_throughput", "median_ttft_ms")]
    memory = variant.anywhere("weight_bytes")
    weights = _dash(notes, memory.reason) if memory.median is None else _text(quantity(memory.median, "bytes"))
    return [
        _text(cell.name, "" if cell.method == "none" else cell.method),
        _text(cell.workload),
        *speeds,
        weights,
        _change(variant, notes),
        _text(cell.state, style=STYLES[cell.state]),
    ]


def _number(cell: MeasuredCell, metric: str, mark: str, notes: Footnotes) -> "Text":
    if cell.is_heldout:
        return _dash(notes, "no request workload for this precision in this run")
    number = cell.number(metric)
    if number.median is None:
        return _dash(notes, number.reason)
    below = range_text(number.low, number.high, "") if number.has_spread else "1 repeat"
    return _text(significant(number.median) + mark, below)


def _change(variant: Variant, notes: Footnotes) -> "Text":
    if variant.is_baseline and variant.quality("perplexity").median is not None and not is_held_against_native(variant):
        return _text("baseline", significant(variant.quality("perplexity").median, 4))
    value, low, high = (variant.quality(f"perplexity_change_{end}pct").median for end in ("", "low_", "high_"))
    if value is None:
        return _dash(notes, variant.quality("perplexity_change_pct").reason)
    digits = change_decimals(value, low, high)
    below = "no interval" if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"
    return _text(f"{signed(value, digits)} %", below)


def _legend(everyone: Sequence[Variant], notes: Footnotes) -> "Text":
    if not everyone:
        return _text("No cell has a record.")
    lines = ["Median over the repeats, below it min–max. Perplexity change against BF16, below it the 95 % interval."]
    lines += [f"ref: {REFERENCE_SPEED}"] if any(cell.is_reference for v in everyone for cell in v.cells) else []
    lines += [f"({number}) {text}" for number, text in enumerate(notes.texts, start=1)]
    return _text("\n".join(lines), style="dim")


def _dash(notes: Footnotes, reason: str | None) -> "Text":
    entry = notes.dash(reason)
    return _text(f"{entry.text} ({entry.footnote})", style="dim")


def _text(text: str, below: str = "", *, style: str = "") -> "Text":
    from rich.text import Text

    shown = Text(text, style=style)
    if below:
        shown.append(f"\n{below}", style="dim")
    return shown
