"""Horizontal bars of one metric: a panel a workload, a bar a (target, precision), labeled with its value.

In: variants and a metric of request cells. Out: PNG bytes. Bars start at zero; error bars are min-max over
the repeats. Hatched bars ran the reference implementation. A value that was not measured is a dash and its
reason, never a bar.
"""

import textwrap
from collections.abc import Sequence

from harness.report.cells import MeasuredCell
from harness.report.numbers import DASH, significant
from harness.report.plots import canvas, style
from harness.report.plots.rows import Rows, label_rows, lay_out
from harness.report.variants import Variant

ROW_IN = 0.44
REASON_CHARS = 54


def draw_bars(title: str, everyone: Sequence[Variant], metric: str, *, axis_label: str, note: str) -> bytes:
    """One panel a workload of the given variants."""
    cells = [cell for variant in everyone for cell in variant.requests]
    workloads = dict.fromkeys(cell.workload for cell in cells)
    panels = [lay_out([cell for cell in cells if cell.workload == name], ROW_IN) for name in workloads]
    figure, axes = canvas.panels(title, [rows.height_in for rows in panels], note=note, gap_in=0.62)
    for axis, name, rows in zip(axes, workloads, panels, strict=True):
        canvas.panel_title(axis, f"workload: {name}")
        _panel(axis, rows, metric)
        axis.set_xlabel(axis_label)
    return canvas.png(figure)


def _panel(axis, rows: Rows, metric: str) -> None:
    numbers = [cell.number(metric) for cell in rows.cells]
    room = 1.18 if all(cell.state == "VALID" for cell in rows.cells) else 1.32
    limit = room * (max([number.high for number in numbers if number.median is not None] or [0]) or 1.0)
    for cell, number, y_in in zip(rows.cells, numbers, rows.middles_in, strict=True):
        if number.median is None:
            text = textwrap.shorten(f"{DASH} not measured: {number.reason}", REASON_CHARS, placeholder=" …")
            axis.text(0.01 * limit, y_in, text, va="center", fontsize=8.5, color=style.MUTED)
        else:
            _bar(axis, cell, number, y_in)
        if cell.state != "VALID":
            place = axis.get_yaxis_transform()
            axis.text(1, y_in, cell.state, transform=place, va="center", ha="right", fontsize=8, color=style.MUTED)
    axis.set_xlim(0, limit)
    label_rows(axis, rows)
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=5)
    axis.spines["left"].set_color(style.MUTED)


def _bar(axis, cell: MeasuredCell, number, y_in: float) -> None:
    hue = style.color(cell.weights)
    look = {"color": hue}
    if cell.is_reference:
        look = {"facecolor": "white", "edgecolor": hue, "hatch": "////", "linewidth": 1.2}
    axis.barh(y_in, number.median, 0.62 * ROW_IN, **look)
    if number.has_spread:
        ends = [[number.median - number.low], [number.high - number.median]]
        axis.errorbar(number.median, y_in, xerr=ends, color=style.INK, capsize=3, linewidth=1.2)
    text, tip = significant(number.median), (number.high, y_in)
    axis.annotate(text, tip, (5, 0), textcoords="offset points", va="center", fontsize=10)
