"""Heat map of expert usage, layer x expert: BF16, FP4 and their difference, a figure a (target, model).

In: measured cells with expert histograms. Out: Plot. A row of a heat map sums to 100 % of the layer's assignments.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import MeasuredCell
from harness.report.numbers import grouped, signed, significant
from harness.report.plots import style
from harness.report.tables.experts import experts_of
from harness.report.variants import Variant

MAX_ANNOTATED_LAYERS, MAX_ANNOTATED_EXPERTS = 16, 16


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for target, model in dict.fromkeys((v.head.target, v.head.model) for v in everyone):
        ours = [v for v in everyone if (v.head.target, v.head.model) == (target, model)]
        name = style.slug("expert-usage", model, target)
        pair = _pick(ours)
        if pair:
            yield _plot(name, pair)
        else:
            yield style.Skipped(name, f"no cell of {model} on {target} recorded its routing")


def _with_histogram(variant: Variant, workload: str | None = None) -> MeasuredCell | None:
    cells = sorted(variant.cells, key=lambda cell: not cell.is_heldout)
    return next(
        (
            cell
            for cell in cells
            if (experts_of(cell) or {}).get("layers") and workload in (None, cell.workload)
        ),
        None,
    )


def _pick(ours: list[Variant]) -> list[MeasuredCell]:
    """BF16 and the first FP4 (else the first quantized) variant, on the same workload; the held-out text where there."""
    base = next((cell for v in ours if v.is_baseline for cell in [_with_histogram(v)] if cell), None)
    quantized = sorted((v for v in ours if not v.is_baseline), key=lambda v: not v.is_fp4)
    workload = base.workload if base else None
    other = next((cell for v in quantized for cell in [_with_histogram(v, workload)] if cell), None)
    return [cell for cell in (base, other) if cell is not None]


def _shares(cell: MeasuredCell):
    import numpy as np

    counts = np.array([layer["histogram"] for layer in experts_of(cell)["layers"]], dtype=float)
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _plot(name: str, cells: list[MeasuredCell]) -> style.Plot:
    shares = [_shares(cell) for cell in cells]
    num_layers, num_experts = shares[0].shape
    panels = [
        (
            f"{cell.name}" + ("" if cell.method == "none" else f", {cell.method}"),
            share,
            "YlGnBu",
            (0, max(s.max() for s in shares)),
        )
        for cell, share in zip(cells, shares, strict=True)
    ]
    difference = shares[1] - shares[0] if len(shares) == 2 and shares[0].shape == shares[1].shape else None
    if difference is not None:
        limit = max(abs(difference).max(), 0.1)
        panels.append((f"{cells[1].name} minus BF16, percentage points", difference, "PuOr", (-limit, limit)))
    title = _title(cells, shares, difference)
    experts = experts_of(cells[0])
    note = f"{cells[0].model} on {cells[0].target}, workload {cells[0].workload}, top-{experts['top_k']} of {experts['num_experts']} experts."
    height = min(0.3 * num_layers, 4.6) if num_layers <= MAX_ANNOTATED_LAYERS else 4.6
    figure, axes = style.panels(
        title, [height] * len(panels), note=note, left_in=0.75, right_in=0.95, gap_in=0.5
    )
    for axis, (heading, values, palette, limits) in zip(axes, panels, strict=True):
        style.panel_title(axis, heading)
        _heat(figure, axis, values, palette, limits)
    axes[-1].set_xlabel("expert")
    total = int(sum(sum(layer["histogram"]) for layer in experts["layers"]) / num_layers)
    caption = (
        f"Share of a layer's token-expert assignments that each expert gets; each row sums to 100 %. An even router gives "
        f"{significant(100 / num_experts)} %. n = {grouped(total)} assignments a layer."
    )
    alt = f"Heat map of expert usage by layer and expert on {note} {title}."
    return style.Plot(name, title, caption, alt, style.png(figure))


def _heat(figure, axis, values, palette: str, limits: tuple[float, float]) -> None:
    num_layers, num_experts = values.shape
    image = axis.imshow(
        values, aspect="auto", cmap=palette, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axis.set_xticks(range(0, num_experts, max(1, num_experts // 16)))
    axis.set_yticks(range(0, num_layers, max(1, num_layers // 16)))
    axis.set_ylabel("layer")
    for spine in axis.spines.values():
        spine.set_visible(False)
    box = axis.get_position()
    bar = figure.colorbar(image, cax=figure.add_axes((box.x1 + 0.02, box.y0, 0.018, box.height)))
    bar.outline.set_visible(False)
    bar.set_label("points" if limits[0] < 0 else "% of layer", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    if num_layers > MAX_ANNOTATED_LAYERS or num_experts > MAX_ANNOTATED_EXPERTS:
        return
    for row in range(num_layers):
        for column in range(num_experts):
            red, green, blue, _ = image.cmap(image.norm(values[row, column]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            text = signed(values[row, column], 1) if limits[0] < 0 else f"{values[row, column]:.0f}"
            axis.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if dark else style.INK,
            )


def _title(cells: list[MeasuredCell], shares: list, difference) -> str:
    layer, expert = divmod(int(shares[0].argmax()), shares[0].shape[1])
    hottest = f"Layer {layer} sends {shares[0][layer, expert]:.0f} % of its assignments to expert {expert}"
    if difference is None:
        return hottest
    return (
        f"{hottest}; {cells[1].name} moves no expert's share by more than {abs(difference).max():.1f} points"
    )
