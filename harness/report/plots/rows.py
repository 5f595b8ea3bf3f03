"""Rows of a horizontal plot: one a cell, under a heading a target where there are several.

In: cells in order, inches a row. Out: the height of the axes and the middle of each row, in inches from the
top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.cells import MeasuredCell
from harness.report.plots import style

HEADING_IN, MARGIN_IN = 0.34, 0.05


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows stand; the y axis of the axes is in inches, downwards."""

    cells: tuple[MeasuredCell, ...]
    middles_in: tuple[float, ...]
    headings: tuple[tuple[float, str], ...]
    height_in: float


def lay_out(cells: Sequence[MeasuredCell], row_in: float, *, top_in: float = MARGIN_IN) -> Rows:
    """Rows in the given order; a heading stands before the first row of each target if there are several."""
    several = len({cell.target for cell in cells}) > 1
    y_in, middles, headings, target = top_in, [], [], None
    for cell in cells:
        if several and cell.target != target:
            headings.append((y_in + HEADING_IN / 2, cell.target))
            y_in, target = y_in + HEADING_IN, cell.target
        middles.append(y_in + row_in / 2)
        y_in += row_in
    return Rows(tuple(cells), tuple(middles), tuple(headings), y_in + MARGIN_IN)


def label_rows(axis, rows: Rows) -> None:
    """Headings, a label a row (format pair over method), and the y axis in inches."""
    axis.set_ylim(rows.height_in, 0)
    axis.set_yticks(rows.middles_in, [_label(cell) for cell in rows.cells], linespacing=1.05)
    place = axis.get_yaxis_transform()
    look = {"va": "center", "fontsize": 9.5, "color": style.MUTED, "fontweight": "bold"}
    for y_in, text in rows.headings:
        cover = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axis.text(0.012, y_in, text, transform=place, bbox=cover, **look)


def _label(cell: MeasuredCell) -> str:
    parts = [part for part in (cell.method, cell.backend) if part not in ("none", "native")]
    return f"{cell.name}\n{', '.join(parts)}" if parts else cell.name
