"""Throughput against time to first token, a figure a model: which cells no other beats in both.

In: Comparison. Out: Plot. The line joins the cells of the frontier. Reference implementations are hollow: not FP4's speed.
"""

from collections.abc import Iterator

from harness.compare.build import Comparison
from harness.compare.plots.points import Point, scatter
from harness.report.cells import REFERENCE_SPEED
from harness.report.plots import canvas, style

X, Y = "median_ttft_ms", "output_throughput"


def draw(comparison: Comparison) -> Iterator[style.Plot | style.Skipped]:
    """A figure a model that has request cells."""
    cells = [cell for cell in comparison.cells if not cell.is_heldout]
    for model in dict.fromkeys(cell.model for cell in cells):
        points = []
        for cell in (cell for cell in cells if cell.model == model):
            x, y = cell.number(X).median, cell.number(Y).median
            if x and y:
                points.append(Point(cell, x, y, f"{cell.name}, {cell.workload}"))
        name = style.slug("pareto", model)
        yield (
            _plot(name, model, points)
            if len(points) > 1
            else style.Skipped(name, f"fewer than two cells of {model} have both speeds")
        )


def frontier(points: list[Point]) -> list[Point]:
    """Points that none other beats in both: lower x and higher y, from the left."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def _plot(name: str, model: str, points: list[Point]) -> style.Plot:
    best = frontier(points)
    title = f"Throughput against first token: {len(best)} of {len(points)} cells are beaten by none in both"
    is_reference = any(point.cell.is_reference for point in points)
    note = f"{model}. Up and left is better. " + (f"Hollow: {REFERENCE_SPEED}." if is_reference else "")
    figure, (axis,) = canvas.panels(title, [3.1], note=note, left_in=0.95)
    axis.plot([p.x for p in best], [p.y for p in best], color=style.MUTED, linewidth=1.2, linestyle="--", zorder=0)
    axis.set_ylim(0, 1.12 * max(point.y for point in points))
    scatter(axis, points, best)
    axis.set_xlabel("median time to first token, ms")
    axis.set_ylabel("output tokens/s")
    axis.spines["left"].set_color(style.RULE)
    texts = "; ".join(f"{p.cell.target}, {p.name}: {p.x:.3g} ms, {p.y:.4g} tokens/s" for p in points)
    caption = "Medians over the repeats. Dashed: the frontier, the cells that no other beats in both."
    return style.Plot(name, title, caption, f"Scatter of throughput against time to first token. {texts}.", canvas.png(figure))
