"""A comparison for the terminal: a row a primary metric and exact figure, worst news first within a cell.

In: Comparison. Out: rich renderables. Where there are many pairs the ones with something to tell come first and the rest
are counted.
"""

from typing import TYPE_CHECKING

from harness.compare.build import Comparison, PairResult
from harness.compare.words import VERDICTS, cell_name, change_of, figure, interval_of, leads, side_name
from harness.report.numbers import count

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"worse": "bold red", "better": "green", "same": "cyan", "inconclusive": "yellow", "not judged": "dim"}
COLUMNS = (
    ("metric", "left", 22),
    ("baseline", "right", 14),
    ("other", "right", 14),
    ("change", "right", 8),
    ("95 % interval", "right", 19),
    ("verdict", "left", 12),
)
MAX_PAIRS = 24


def render(comparison: Comparison) -> "list[RenderableType]":
    """Lead, table, differences, notes."""
    from rich.text import Text

    parts: list = [Text(line, style="bold" if index == 0 else "") for index, line in enumerate(leads(comparison))]
    chosen = sorted(comparison.results, key=_rank)[:MAX_PAIRS]
    parts.append(_table(comparison, chosen))
    if len(chosen) < len(comparison.results):
        left = count(len(comparison.results) - len(chosen), "pair")
        parts.append(Text(f"{left} with nothing worse to tell are left out here; they are in --json and --out", style="dim"))
    parts += [
        Text(f"{row.group} differs: {row.name}: {' | '.join(value or '—' for value in row.values)}", style="dim")
        for row in comparison.differences
    ]
    parts += [
        Text(f"not compared: {u.cell.cell_id} ({u.cell.run.run_id}): {u.reason}", style="yellow")
        for u in comparison.unpaired[:MAX_PAIRS]
    ]
    more = len(comparison.unpaired) - MAX_PAIRS
    parts += [Text(f"... and {count(more, 'more cell')} not compared", style="yellow")] if more > 0 else []
    return parts + [Text(f"note: {note}", style="yellow") for note in comparison.notes]


def _rank(result: PairResult) -> int:
    return min((VERDICTS.index(j.verdict) for j in result.judgements), default=len(VERDICTS))


def _table(comparison: Comparison, chosen: list[PairResult]):
    """A table a pair under its own heading, so that a long heading widens no column."""
    from rich.table import Table
    from rich.text import Text

    outer = Table.grid()
    for result in chosen:
        a, b = (side_name(cell, comparison.across) for cell in (result.pair.a, result.pair.b))
        outer.add_row(Text(f"\n{cell_name(result.pair.b, comparison.across)}: {b} against {a}", style="bold"))
        outer.add_row(_pair(result))
        for note in result.notes:
            outer.add_row(Text(f"  {note}", style="yellow"))
    return outer


def _pair(result: PairResult):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name, justify, width in COLUMNS:
        shown.add_column(name, justify=justify, min_width=width, overflow="fold")
    for item in (*result.judgements, *result.exact):
        values = (item.median_a, item.median_b) if hasattr(item, "median_a") else (item.value_a, item.value_b)
        texts = [figure(value, item.unit) for value in values]
        verdict = Text(item.verdict, style=STYLES[item.verdict])
        if item.reason and (item.verdict == "not judged" or item.low is None):
            verdict.append(f": {item.reason}", style="dim")
        shown.add_row(item.metric, *texts, change_of(item), interval_of(item), verdict)
    return shown
