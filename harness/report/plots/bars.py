"""Horizontal bars of one metric: a panel a workload, a bar a (target, precision), labeled with its value.

In: variants and a metric of request cells. Out: PNG bytes. Bars start at zero; error bars are min-max over the repeats.
Hatched bars ran the reference implementation. A value that was not measured is a dash and its reason, never a bar.
"""

import textwrap
from collections.abc import Sequence

from harness.report.cells import MeasuredCell
from harness.report.numbers import DASH, significant
from harness.report.plots import style
from harness.report.variants import Variant

ROW_IN, HEADING_IN = 0.44, 0.36
REASON_CHARS = 50


def draw_bars(title: str, everyone: Sequence[Variant], metric: str, *, axis_label: str, note: str) -> bytes:
    """One panel a workload of the given variants."""
    workloads = list(dict.fromkeys(cell.workload for variant in everyone for cell in variant.requests))
    cells = {name: [c for v in everyone for c in v.requests if c.workload == name] for name in workloads}
    targets = {cell.target for found in cells.values() for cell in found}
    figure, axes = style.panels(
        title, [_height(found, targets) for found in cells.values()], note=note, gap_in=0.62
    )
    for axis, (name, found) in zip(axes, cells.items(), strict=True):
        style.panel_title(axis, f"workload: {name}")
        _panel(axis, found, metric, with_headings=len(targets) > 1)
        axis.set_xlabel(axis_label)
    return style.png(figure)


def _height(cells: list[MeasuredCell], targets: set[str]) -> float:
    headings = len({cell.target for cell in cells}) if len(targets) > 1 else 0
    return ROW_IN * len(cells) + HEADING_IN * headings + 0.1


def _panel(axis, cells: list[MeasuredCell], metric: str, *, with_headings: bool) -> None:
    numbers = [cell.number(metric) for cell in cells]
    limit = 1.32 * max([number.high for number in numbers if number.median is not None] or [1.0])
    y_in, ticks, labels, target = 0.05, [], [], None
    for cell, number in zip(cells, numbers, strict=True):
        if with_headings and cell.target != target:
            axis.text(
                0,
                y_in + HEADING_IN / 2,
                cell.target,
                va="center",
                fontsize=9.5,
                color=style.MUTED,
                fontweight="bold",
            )
            y_in, target = y_in + HEADING_IN, cell.target
        y = y_in + ROW_IN / 2
        _bar(axis, cell, number, y, limit)
        ticks.append(y)
        labels.append(style.row_label(cell))
        y_in += ROW_IN
    axis.set_xlim(0, limit)
    axis.set_ylim(y_in + 0.05, 0)
    axis.set_yticks(ticks, labels, linespacing=1.05)
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=5)
    axis.spines["left"].set_color(style.MUTED)


def _bar(axis, cell: MeasuredCell, number, y: float, limit: float) -> None:
    if number.median is None:
        text = textwrap.shorten(f"{DASH} not measured: {number.reason}", REASON_CHARS, placeholder=" …")
        axis.text(0.01 * limit, y, text, va="center", fontsize=9, color=style.MUTED)
        return
    hue = style.color(cell.weights)
    if cell.is_reference:
        axis.barh(
            y, number.median, 0.62 * ROW_IN, facecolor="white", edgecolor=hue, hatch="////", linewidth=1.2
        )
    else:
        axis.barh(y, number.median, 0.62 * ROW_IN, color=hue)
    if number.has_spread:
        axis.errorbar(
            number.median,
            y,
            xerr=[[number.median - number.low], [number.high - number.median]],
            color=style.INK,
            capsize=3,
            linewidth=1.2,
        )
    axis.annotate(
        significant(number.median),
        (number.high, y),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=10,
    )
    if cell.state != "VALID":
        axis.annotate(cell.state, (limit, y), va="center", ha="right", fontsize=8, color=style.MUTED)
