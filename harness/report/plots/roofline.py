"""Roofline of a decode step: each kind of work where its operations a byte and its speed put it, under the measured ceilings.

In: variants whose cells carry a profile. Out: Plot, a figure a (target, model): one panel a cell.
"""

from collections.abc import Iterator, Sequence

from harness.profile.roofline import Point, by_name, points
from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.numbers import significant
from harness.report.plots import canvas, style
from harness.report.tables.profile import blocks
from harness.report.variants import Variant

COLORS = {
    "attention": "#56b4e9", "attention projections": "#a6559d", "route": "#e69f00", "experts": "#0072b2",
    "gate-up GEMM": "#009e73", "down GEMM": "#cc79a7", "head": "#7f7f7f",
}  # fmt: skip
PANEL_IN, MAX_PANELS = 2.5, 6


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    cells = [cell for variant in everyone for cell in variant.requests]
    found = [(cell, block, by_name(points(block))) for cell, block in blocks(cells)]
    for target, model in dict.fromkeys((cell.target, cell.model) for cell, _, _ in found):
        ours = [item for item in found if (item[0].target, item[0].model) == (target, model) and item[2]][:MAX_PANELS]
        name = style.slug("roofline", model, target)
        if ours:
            yield _plot(name, ours)
        else:
            yield style.Skipped(name, "the profile has no experts hit or no ceilings")


def _plot(name: str, found: list[tuple[MeasuredCell, dict, list[Point]]]) -> style.Plot:
    first = found[0][0]
    reference = f" {REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}." if first.is_reference else ""
    source = "GPU time of the kernels" if found[0][2][0].is_gpu else "host time"
    note = f"{first.model} on {first.target}; {source}.{reference}"
    heights = [PANEL_IN] * len(found)
    figure, axes = canvas.panels(_title(found), heights, note=note, left_in=0.9, gap_in=0.55, bottom_in=0.95)
    for axis, (cell, block, placed) in zip(axes, found, strict=True):
        _panel(axis, cell, block, placed)
    axes[-1].set_xlabel("operations a byte that must be read")
    _legend(figure, [point.name for _, _, placed in found for point in placed])
    caption = (
        "A decode step, all layers together. The slope is the measured reading speed, the flat line the measured product's; "
        "a point on the line could not be faster. Bytes of experts: those really hit, codes and scales. "
        "Sizes mean nothing: a point under another shows as a ring."
    )
    values = "; ".join(
        f"{cell.name} {cell.workload}: " + ", ".join(f"{p.name} {100 * p.share:.0f} % of its limit" for p in placed)
        for cell, _, placed in found
    )
    return style.Plot(name, _title(found), caption, f"Roofline of a decode step, {note} {values}.", canvas.png(figure))


def _panel(axis, cell: MeasuredCell, block: dict, placed: list[Point]) -> None:
    import numpy as np

    facts = block["facts"]
    read, product = facts["ceilings"]["best_read_gb_s"], facts["ceilings"]["product_tflops"][facts["product_kind"]] * 1e3
    low = min(point.intensity for point in placed) / 3
    high = max(*(point.intensity for point in placed), product / read) * 4
    x = np.geomspace(low, high, 200)
    axis.plot(x, np.minimum(x * read, product), color=style.INK, linewidth=1.2)
    for size, point in zip(np.linspace(12, 6, len(placed)), placed, strict=True):  # one below another shows as a ring
        axis.plot(point.intensity, point.tflops * 1e3, "o", color=COLORS[point.name], markersize=size, markeredgecolor="white")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(True)
    axis.set_ylabel("GFLOP/s")
    text = f"{significant(read, 3)} GB/s, {significant(product, 3)} GFLOP/s ({facts['product_kind']})"
    axis.text(0.99, 0.04, text, transform=axis.transAxes, ha="right", fontsize=9, color=style.MUTED)
    method = "" if cell.method == "none" else f", {cell.method}"
    canvas.panel_title(axis, f"{cell.name}{method}, {cell.workload}")


def _legend(figure, names: list[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=COLORS[name], label=name)
        for name in COLORS
        if name in dict.fromkeys(names)
    ]
    figure.legend(handles=handles, loc="lower left", ncols=6, columnspacing=1.0, handletextpad=0.2)


def _title(found: list[tuple[MeasuredCell, dict, list[Point]]]) -> str:
    shares = [100 * p.share for _, _, placed in found for p in placed if p.name == "experts"]
    if not shares:
        return "Where a decode step stands under the ceilings"
    low, high = significant(min(shares), 2), significant(max(shares), 2)
    return f"The experts run at {low if low == high else f'{low} to {high}'} % of what reading their weights allows"
