"""Scatter of cells: one point a cell, colored by weight format, shaped by target, hollow where the reference ran.

In: points with their cells. Out: drawn axes. Names stand beside the points where there are few, else in the legend alone.
"""

from dataclasses import dataclass

from harness.report.cells import MeasuredCell
from harness.report.plots import style

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_NAMED = 12


@dataclass(frozen=True, slots=True)
class Point:
    """Where a cell stands."""

    cell: MeasuredCell
    x: float
    y: float
    name: str


def scatter(axis, points: list[Point]) -> None:
    """Draw the points and their names."""
    targets = list(dict.fromkeys(point.cell.target for point in points))
    for point in points:
        hue = style.color(point.cell.weights)
        face = "white" if point.cell.is_reference else hue
        marker = MARKERS[targets.index(point.cell.target) % len(MARKERS)]
        axis.plot(
            point.x,
            point.y,
            marker,
            markersize=8,
            markerfacecolor=face,
            markeredgecolor=hue,
            markeredgewidth=1.6,
            linestyle="none",
        )
    if len(points) <= MAX_NAMED:
        _name(axis, points)
    if len(targets) > 1:
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], marker=MARKERS[i % len(MARKERS)], linestyle="none", color=style.MUTED, label=target)
            for i, target in enumerate(targets)
        ]
        axis.legend(handles=handles, loc="lower right", fontsize=8)
    axis.grid(True)


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
