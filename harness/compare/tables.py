"""Tables of a comparison: primary metrics, exact figures, what differs between the runs, what was not compared.

In: Comparison. Out: report Tables, which HTML and Markdown print.
"""

import textwrap

from harness.compare.build import Comparison, PairResult
from harness.compare.exact import ExactChange
from harness.compare.judge import Judgement
from harness.compare.words import MARKS, TONES, cell_name, change_of, figure, interval_of, side_name
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import significant


def primary_table(comparison: Comparison) -> Table:
    """A row a metric of a pair, a group a cell."""
    notes = Footnotes()
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for result in comparison.results:
        rows = groups.setdefault(cell_name(result.pair.b, comparison.across), [])
        rows += [_judged(result, judgement, comparison, notes) for judgement in result.judgements]
    return table(
        "Primary metrics: median over the repeats of each side, ratio with its interval, verdict.",
        ("Side by side", "Metric", "Baseline", "Other", "Change", "Corrected p", "Verdict"),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
        notes,
    )


def _judged(result: PairResult, judgement: Judgement, comparison: Comparison, notes: Footnotes) -> tuple[Entry, ...]:
    return (
        _sides(result, comparison),
        Entry(judgement.metric, detail=f"{judgement.direction} is better"),
        _value(judgement.median_a, judgement.unit, judgement.num_a, judgement.reason, notes),
        _value(judgement.median_b, judgement.unit, judgement.num_b, judgement.reason, notes),
        Entry(change_of(judgement), detail=interval_of(judgement)) if judgement.ratio else notes.dash(judgement.reason),
        Entry(significant(judgement.p_holm, 2), detail=judgement.test)
        if judgement.p_holm is not None
        else notes.dash(judgement.reason or "no test"),
        _verdict(judgement),
    )


def exact_table(comparison: Comparison) -> Table:
    """Perplexity, KL and memory of each pair."""
    notes = Footnotes()
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for result in comparison.results:
        rows = groups.setdefault(cell_name(result.pair.b, comparison.across), [])
        for change in result.exact:
            values = (_value(value, change.unit, 1, change.reason, notes) for value in (change.value_a, change.value_b))
            delta = Entry(change_of(change), detail=interval_of(change)) if change.ratio else notes.dash(change.reason)
            rows.append((_sides(result, comparison), Entry(change.metric), *values, delta, _verdict(change)))
    return table(
        "Exact figures: one value a side. Perplexity carries an interval paired by token where both runs kept their samples.",
        ("Side by side", "Metric", "Baseline", "Other", "Change", "Verdict"),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
        notes,
        folded=len(comparison.results) > 6,
    )


def _sides(result: PairResult, comparison: Comparison) -> Entry:
    a, b = (side_name(cell, comparison.across) for cell in (result.pair.a, result.pair.b))
    tone = "" if not (result.pair.a.is_reference or result.pair.b.is_reference) else ", reference implementation"
    return Entry(b, detail=f"against {a}{tone}", tone="head")


def _value(value: float | None, unit: str, repeats: int, reason: str, notes: Footnotes) -> Entry:
    if value is None:
        return notes.dash(reason)
    return Entry(figure(value, unit), detail=f"n = {repeats}" if repeats > 1 else "")


def _verdict(item: Judgement | ExactChange) -> Entry:
    return Entry(f"{MARKS[item.verdict]} {item.verdict}", detail=textwrap.fill(item.reason, 38), tone=TONES[item.verdict])


def differences_table(comparison: Comparison) -> Table:
    """A row a fact that is not the same in all runs."""
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for row in comparison.differences:
        values = (Entry(value if value is not None else "—", tone="text") for value in row.values)
        groups.setdefault(row.group, []).append((Entry(row.name, tone="head"), *values))
    return table(
        "What differs between the runs. Whatever is not listed was recorded and is the same.",
        ("Fact", *(run.run_id for run in comparison.runs)),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
    )


def unpaired_table(comparison: Comparison) -> Table:
    """Cells without a counterpart, each with its reason."""
    rows = tuple(
        (Entry(item.cell.cell_id, tone="code"), Entry(item.cell.run.run_id), Entry(item.reason, tone="text"))
        for item in comparison.unpaired
    )
    return table("Cells that were not compared.", ("Cell", "Run", "Why"), [Group("", rows)], folded=len(rows) > 10)
