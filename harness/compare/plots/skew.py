"""Routing skew by layer: the load of the busiest expert over the mean, a line a side.

In: Comparison. Out: Plot, a figure a model and phase. Speed of an MoE depends on the skew, so sides whose routing differs
are not the same work; lines that lie on each other say that it was.
"""

from collections.abc import Iterator

from harness.compare.build import Comparison
from harness.report.cells import MeasuredCell
from harness.report.plots import canvas, style

MAX_LINES = 8
ALIKE = 0.02
"""Sides whose loads differ by less did the same work."""
DASHES = ("-", "--", ":", "-.")


def draw(comparison: Comparison) -> Iterator[style.Plot | style.Skipped]:
    """A figure a (model, workload) with recorded routing."""
    cells = [cell for cell in comparison.cells if cell.records]
    for model, workload in dict.fromkeys((cell.model, cell.workload) for cell in cells):
        found = [cell for cell in cells if (cell.model, cell.workload) == (model, workload) and _layers(cell)]
        name = style.slug("skew", model, workload)
        yield _plot(name, model, workload, found[:MAX_LINES]) if found else style.Skipped(name, "no routing was recorded")


def _layers(cell: MeasuredCell) -> list[float]:
    """Load of the busiest expert over the mean, by layer."""
    experts = cell.records[0].get("experts") or {}
    return [layer["max_over_mean"] for layer in experts.get("layers") or ()]


def _plot(name: str, model: str, workload: str, cells: list[MeasuredCell]) -> style.Plot:
    loads = [_layers(cell) for cell in cells]
    widest = max(max(x) - min(x) for x in zip(*loads, strict=True)) if len({len(x) for x in loads}) == 1 else 0.0
    alike = "the same work on every side" if widest < ALIKE else f"sides differ by up to {widest:.2f}"
    title = f"Routing skew at {workload}: {alike}" if len(cells) > 1 else f"Routing skew at {workload}"
    figure, (axis,) = canvas.panels(
        title, [2.3], note=f"{model}. Load of the busiest expert over the mean; 1 is even.", left_in=0.8
    )
    targets = list(dict.fromkeys(cell.target for cell in cells))
    for cell, load in zip(cells, loads, strict=True):
        dash = DASHES[targets.index(cell.target) % len(DASHES)]
        axis.plot(
            range(len(load)), load, dash, marker="o", markersize=4, color=style.color(cell.weights), label=_label(cell, targets)
        )
    axis.axhline(1, color=style.RULE, linewidth=1)
    axis.set_xlabel("layer")
    axis.set_ylabel("busiest / mean")
    axis.set_ylim(bottom=0.9)
    axis.locator_params(axis="x", integer=True)
    axis.grid(axis="y")
    if widest >= ALIKE or len(cells) == 1:
        axis.legend(loc="best", fontsize=8)
    else:
        axis.set_title(f"{len(cells)} lines, one on the other", loc="right", fontsize=9, color=style.MUTED)
    texts = "; ".join(
        f"{_label(cell, targets)}: {', '.join(f'{x:.2f}' for x in load)}" for cell, load in zip(cells, loads, strict=True)
    )
    return style.Plot(
        name, title, "From the routing of the first repeat.", f"Lines of routing skew by layer. {texts}.", canvas.png(figure)
    )


def _label(cell: MeasuredCell, targets: list[str]) -> str:
    method = "" if cell.method == "none" else f" {cell.method}"
    return f"{cell.name}{method}" + (f", {cell.target}" if len(targets) > 1 else "")
