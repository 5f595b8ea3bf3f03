"""Scatter of cells: one point a cell, colored by weight format, shaped by target, hollow where the reference ran.

In: points with their cells, and which of them to name. Out: drawn axes with a legend of formats and targets.
"""

from dataclasses import dataclass

from harness.report.cells import FORMAT_NAMES, MeasuredCell
from harness.report.plots import style

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_NAMED = 6


@dataclass(frozen=True, slots=True)
class Point:
    """Where a cell stands."""

    cell: MeasuredCell
    x: float
    y: float
    name: str


def scatter(axis, points: list[Point], named: list[Point]) -> None:
    """Draw the points, the names of `named`, and a legend of formats and targets where that is more than one."""
    targets = list(dict.fromkeys(point.cell.target for point in points))
    for point in points:
        hue = style.color(point.cell.weights)
        face = "white" if point.cell.is_reference else hue
        marker = MARKERS[targets.index(point.cell.target) % len(MARKERS)]
        look = {"markerfacecolor": face, "markeredgecolor": hue, "markeredgewidth": 1.6, "linestyle": "none"}
        axis.plot(point.x, point.y, marker, markersize=8, **look)
    _name(axis, named[:MAX_NAMED])
    _legend(axis, points, targets)
    axis.grid(True)


def _legend(axis, points: list[Point], targets: list[str]) -> None:
    from matplotlib.lines import Line2D

    formats = dict.fromkeys(point.cell.weights for point in points)
    marks = [("o", style.color(weights), FORMAT_NAMES.get(weights, weights)) for weights in formats]
    if len(targets) > 1:
        marks += [(MARKERS[index % len(MARKERS)], style.MUTED, target) for index, target in enumerate(targets)]
    handles = [Line2D([], [], marker=marker, linestyle="none", color=hue, label=label) for marker, hue, label in marks]
    axis.legend(handles=handles, loc="best", fontsize=8)


def _name(axis, points: list[Point]) -> None:
    """Names right of the points, those of neighbours set apart vertically."""
    low, high = axis.get_ylim()
    taken: list[tuple[float, float]] = []
    x_low, x_high = axis.get_xlim()
    axis.set_xlim(x_low, x_high + 0.38 * (x_high - x_low))
    for point in sorted(points, key=lambda p: p.y):
        y = point.y
        while any(abs(y - other) < 0.07 * (high - low) and abs(point.x - x) < 0.45 * (x_high - x_low) for x, other in taken):
            y += 0.02 * (high - low)
        taken.append((point.x, y))
        axis.annotate(
            point.name, (point.x, point.y), (point.x + 0.025 * (x_high - x_low), y), va="center", fontsize=8.5, color=style.INK
        )
