"""Plot of memory by cause: stacked bars, a bar a precision and target, a figure a model.

In: variants. Out: Plot. KV cache and activations are those of the cell with the largest total, which the caption names.
Causes have their own colors, which no weight format has.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import MeasuredCell
from harness.report.numbers import BYTE_STEPS, bytes_text
from harness.report.plots import style
from harness.report.variants import EXPERT_PARTS, Variant, baseline_of

CAUSES = (
    ("expert codes", "#2f2a5a", EXPERT_PARTS[:1]),
    ("expert scales", "#9a8fd0", EXPERT_PARTS[1:]),
    ("attention", "#5f7f2e", ("attention_bytes",)),
    ("embedding", "#b9c98a", ("embedding_bytes",)),
    ("router and norm", "#3d3d3d", ("router_bytes", "norm_bytes")),
    ("KV cache", "#b08a2e", ("kv_cache_bytes",)),
    ("activations, peak", "#ead9a8", ("activation_peak_bytes",)),
)
ROW_IN = 0.56


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for model in dict.fromkeys(variant.head.model for variant in everyone):
        ours = [
            variant
            for variant in everyone
            if variant.head.model == model and variant.expert_bytes().median is not None
        ]
        name = style.slug("memory", model)
        yield (
            _plot(name, model, ours)
            if ours
            else style.Skipped(name, f"no cell of {model} has a memory figure")
        )


def _parts(cell: MeasuredCell) -> list[float]:
    return [sum(cell.number(metric).median or 0 for metric in metrics) for _, _, metrics in CAUSES]


def _largest(variant: Variant) -> MeasuredCell:
    measured = [cell for cell in variant.cells if cell.records]
    return max(measured, key=lambda cell: sum(_parts(cell)))


def _plot(name: str, model: str, ours: list[Variant]) -> style.Plot:
    cells = [_largest(variant) for variant in ours]
    several = len({cell.target for cell in cells}) > 1
    title = _title(ours)
    figure, (axis,) = style.panels(
        title, [ROW_IN * len(cells) + 0.1], note=f"{model}: bytes by cause.", left_in=1.45, bottom_in=1.22
    )
    totals = [sum(_parts(cell)) for cell in cells]
    step, unit = next(((s, u) for s, u in BYTE_STEPS if max(totals) >= s), (1, "B"))
    for row, cell in enumerate(cells):
        _bar(axis, row, cell, step=step, widest=max(totals))
    labels = [f"{cell.name}\n{cell.target}" if several else style.row_label(cell) for cell in cells]
    axis.set_yticks(range(len(cells)), [_clip(label) for label in labels], linespacing=1.05)
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.set_xlim(0, 1.17 * max(totals) / step)
    axis.set_xlabel(f"{unit} (decimal)")
    axis.grid(axis="x")
    _legend(figure)
    workloads = ", ".join(dict.fromkeys(cell.workload for cell in cells))
    caption = (
        f"Weights are counted once as stored; KV cache and activation peak are those of the workload with the largest total "
        f"({workloads}). Median over the repeats, n = {min(len(c.records) for c in cells)}. A cause that was not measured is absent."
    )
    values = "; ".join(
        f"{cell.target}, {cell.name} {cell.method}: {bytes_text(total)} in all, experts "
        f"{bytes_text(sum(_parts(cell)[:2]))}"
        for cell, total in zip(cells, totals, strict=True)
    )
    return style.Plot(
        name, title, caption, f"Stacked bars of memory by cause for {model}. {values}.", style.png(figure)
    )


def _bar(axis, row: int, cell: MeasuredCell, *, step: float, widest: float) -> None:
    left = 0.0
    for (_, hue, _), part in zip(CAUSES, _parts(cell), strict=True):
        axis.barh(row, part / step, 0.6, left=left / step, color=hue, edgecolor="white", linewidth=0.6)
        if part > 0.10 * widest:
            light = hue in ("#9a8fd0", "#b9c98a", "#ead9a8")
            axis.text(
                (left + part / 2) / step,
                row,
                bytes_text(part).split(" ")[0],
                ha="center",
                va="center",
                fontsize=9,
                color=style.INK if light else "white",
            )
        left += part
    axis.text(
        left / step + 0.012 * widest / step,
        row,
        bytes_text(left),
        va="center",
        fontsize=10,
        fontweight="bold",
    )


def _clip(label: str, limit: int = 19) -> str:
    return "\n".join(line if len(line) <= limit else line[: limit - 1] + "…" for line in label.split("\n"))


def _legend(figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=hue, label=label) for label, hue, _ in CAUSES]
    figure.legend(
        handles=handles,
        loc="lower left",
        ncols=4,
        bbox_to_anchor=(0.0, 0.0),
        columnspacing=1.1,
        handlelength=1.0,
        handletextpad=0.5,
    )


def _title(ours: list[Variant]) -> str:
    parts = []
    for variant in ours:
        base = baseline_of(variant, ours)
        if (
            variant.is_fp4
            and base is not None
            and all(variant.head.weights != weights for weights, _ in parts)
        ):
            parts.append(
                (variant.head.weights, 100 * variant.expert_bytes().median / base.expert_bytes().median)
            )
    if not parts:
        smallest = min(ours, key=lambda variant: variant.expert_bytes().median)
        return f"{smallest.head.name} stores the experts in {bytes_text(smallest.expert_bytes().median)}"
    text = " and ".join(
        f"{weights.upper()} {'stores the experts in ' if i == 0 else 'in '}{share:.0f} %"
        for i, (weights, share) in enumerate(parts)
    )
    return f"{text} of BF16's bytes"
