"""Heat map of expert usage, layer x expert: BF16, FP4 and their difference, a figure a (target, model).

In: variants whose cells recorded expert histograms. Out: Plot. A row sums to 100 % of its layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.cells import MeasuredCell
from harness.report.numbers import grouped, signed, significant
from harness.report.plots import canvas, style
from harness.report.tables.experts import experts_of
from harness.report.variants import Variant

MAX_ANNOTATED = 16  # layers or experts; above it the figures in the fields would not be readable
SEQUENTIAL, DIVERGING = "YlGnBu", "PuOr"


@dataclass(frozen=True, slots=True)
class Heat:
    """One heat map: values [layers, experts] in percent or percentage points."""

    heading: str
    values: object
    low: float
    high: float

    @property
    def is_difference(self) -> bool:
        return self.low < 0


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for target, model in dict.fromkeys((v.head.target, v.head.model) for v in everyone):
        cells = _pick([v for v in everyone if (v.head.target, v.head.model) == (target, model)])
        name = style.slug("expert-usage", model, target)
        if cells:
            yield _plot(name, cells)
        else:
            yield style.Skipped(name, f"no cell of {model} on {target} recorded its routing")


def _pick(ours: list[Variant]) -> list[MeasuredCell]:
    """BF16 and the first FP4 (else quantized) variant, on one workload: the held-out text if it has one."""
    base = next((cell for v in ours if v.is_baseline for cell in [_with_histogram(v)] if cell), None)
    quantized = sorted((v for v in ours if not v.is_baseline), key=lambda v: not v.is_fp4)
    workload = base.workload if base else None
    other = next((cell for v in quantized for cell in [_with_histogram(v, workload)] if cell), None)
    return [cell for cell in (base, other) if cell is not None]


def _with_histogram(variant: Variant, workload: str | None = None) -> MeasuredCell | None:
    for cell in sorted(variant.cells, key=lambda cell: not cell.is_heldout):
        if (experts_of(cell) or {}).get("layers") and workload in (None, cell.workload):
            return cell
    return None


def _shares(cell: MeasuredCell):
    import numpy as np

    counts = np.array([layer["histogram"] for layer in experts_of(cell)["layers"]], dtype=float)
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _heats(cells: list[MeasuredCell]) -> list[Heat]:
    shares = [_shares(cell) for cell in cells]
    highest = max(share.max() for share in shares)
    found = [Heat(_name(cell), share, 0.0, highest) for cell, share in zip(cells, shares, strict=True)]
    if len(shares) == 2 and shares[0].shape == shares[1].shape:
        difference = shares[1] - shares[0]
        limit = max(abs(difference).max(), 0.1)
        found.append(Heat(f"{cells[1].name} minus BF16, percentage points", difference, -limit, limit))
    return found


def _name(cell: MeasuredCell) -> str:
    return cell.name if cell.method == "none" else f"{cell.name}, {cell.method}"


def _plot(name: str, cells: list[MeasuredCell]) -> style.Plot:
    heats, first, experts = _heats(cells), cells[0], experts_of(cells[0])
    num_layers, num_experts = heats[0].values.shape
    title = _title(cells, heats)
    chosen = f"top-{experts['top_k']} of {experts['num_experts']} experts"
    note = f"{first.model} on {first.target}, workload {first.workload}, {chosen}."
    height = 0.3 * num_layers if num_layers <= MAX_ANNOTATED else min(0.11 * num_layers, 3.6)
    heights = [max(height, 0.5)] * len(heats)
    figure, axes = canvas.panels(title, heights, note=note, left_in=0.75, right_in=0.95, gap_in=0.5)
    for axis, heat in zip(axes, heats, strict=True):
        canvas.panel_title(axis, heat.heading)
        _draw_heat(figure, axis, heat)
    axes[-1].set_xlabel("expert")
    total = sum(sum(layer["histogram"]) for layer in experts["layers"]) // num_layers
    caption = (
        "Share of a layer's token-expert assignments that each expert gets; each row sums to 100 %. "
        f"An even router gives {significant(100 / num_experts)} %. n = {grouped(total)} assignments a layer."
    )
    alt = f"Heat map of expert usage by layer and expert. {note} {title}."
    return style.Plot(name, title, caption, alt, canvas.true_color_png(figure))


def _draw_heat(figure, axis, heat: Heat) -> None:
    num_layers, num_experts = heat.values.shape
    palette = DIVERGING if heat.is_difference else SEQUENTIAL
    image = axis.imshow(heat.values, aspect="auto", cmap=palette, vmin=heat.low, vmax=heat.high)
    axis.set_xticks(range(0, num_experts, -(-num_experts // 16)))
    axis.set_yticks(range(0, num_layers, -(-num_layers // 16)))
    axis.set_ylabel("layer")
    axis.spines[:].set_visible(False)
    box = axis.get_position()
    bar = figure.colorbar(image, cax=figure.add_axes((box.x1 + 0.02, box.y0, 0.018, box.height)))
    bar.outline.set_visible(False)
    bar.set_label("points" if heat.is_difference else "% of layer", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    if max(num_layers, num_experts) <= MAX_ANNOTATED:
        _annotate(axis, image, heat)


def _annotate(axis, image, heat: Heat) -> None:
    for (row, column), value in [((r, c), v) for r, line in enumerate(heat.values) for c, v in enumerate(line)]:
        red, green, blue, _ = image.cmap(image.norm(value))
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = signed(value, 1 if heat.high >= 1 else 2) if heat.is_difference else f"{value:.0f}"
        ink = "white" if is_dark else style.INK
        axis.text(column, row, text, ha="center", va="center", fontsize=8.5, color=ink)


def _title(cells: list[MeasuredCell], heats: list[Heat]) -> str:
    values = heats[0].values
    layer, expert = divmod(int(values.argmax()), values.shape[1])
    hottest = f"Layer {layer} sends {values[layer, expert]:.0f} % of its assignments to expert {expert}"
    if not heats[-1].is_difference:
        return hottest
    most = abs(heats[-1].values).max()
    return f"{hottest}; {cells[1].name} moves no expert's share by more than {most:.1f} points"
