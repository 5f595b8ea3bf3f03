"""Perplexity against speed of the same model, weights and target: what a precision costs beside what it brings.

In: Comparison. Out: Plot, a figure a (model, workload). One variant has both, so no quality is borrowed from another model.
"""

from collections.abc import Iterator

from harness.compare.build import Comparison
from harness.compare.plots.points import Point, scatter
from harness.report.cells import REFERENCE_SPEED
from harness.report.plots import canvas, style
from harness.report.variants import variants

SPEED = "output_throughput"


def draw(comparison: Comparison) -> Iterator[style.Plot | style.Skipped]:
    """A figure a model and workload with at least two precisions that have both."""
    everyone = variants(comparison.cells)
    pairs = dict.fromkeys((cell.model, cell.workload) for variant in everyone for cell in variant.requests)
    for model, workload in pairs:
        points = []
        for variant in (variant for variant in everyone if variant.head.model == model):
            perplexity = variant.quality("perplexity").median
            cell = next((cell for cell in variant.requests if cell.workload == workload), None)
            speed = cell.number(SPEED).median if cell is not None else None
            if perplexity and speed:
                method = "" if cell.method == "none" else f", {cell.method}"
                points.append(Point(cell, speed, perplexity, f"{cell.name}{method}"))
        name = style.slug("quality-speed", model, workload)
        yield (
            _plot(name, model, workload, points)
            if len(points) > 1
            else style.Skipped(name, "fewer than two precisions have speed and perplexity")
        )


def _plot(name: str, model: str, workload: str, points: list[Point]) -> style.Plot:
    is_reference = any(point.cell.is_reference for point in points)
    best = min(points, key=lambda point: point.y)
    title = f"Perplexity against speed at {workload}: {best.name} is the closest to the text"
    note = f"{model}, the same weights for both. Down and right is better. " + (
        f"Hollow: {REFERENCE_SPEED}." if is_reference else ""
    )
    figure, (axis,) = canvas.panels(title, [2.9], note=note, left_in=0.95)
    fastest = {point.name: point for point in sorted(points, key=lambda point: point.x)}
    scatter(axis, points, list(fastest.values()))
    axis.set_xlabel(f"output tokens/s at {workload}")
    axis.set_ylabel("perplexity")
    axis.margins(y=0.18)
    texts = "; ".join(f"{p.cell.target}, {p.name}: {p.x:.4g} tokens/s, perplexity {p.y:.5g}" for p in points)
    caption = "Median output tokens/s over the repeats; perplexity on the held-out text, under the same kernels and weights."
    return style.Plot(name, title, caption, f"Scatter of perplexity against speed. {texts}.", canvas.png(figure))
