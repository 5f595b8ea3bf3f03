"""Plot of memory by cause: stacked bars, a bar a precision and target, a figure a model.

In: variants. Out: Plot. KV cache and activations are those of the cell with the largest total, which the
caption names. Causes have their own colors, which no weight format has.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import FORMAT_NAMES, MeasuredCell
from harness.report.numbers import BYTE_STEPS, bytes_text
from harness.report.plots import canvas, style
from harness.report.plots.rows import label_rows, lay_out
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
LIGHT = ("#9a8fd0", "#b9c98a", "#ead9a8")
ROW_IN = 0.5


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for model in dict.fromkeys(variant.head.model for variant in everyone):
        known = [v for v in everyone if v.head.model == model and v.expert_bytes().median is not None]
        name = style.slug("memory", model)
        yield _plot(name, model, known) if known else style.Skipped(name, f"no cell of {model} has a figure")


def _parts(cell: MeasuredCell) -> list[float]:
    return [sum(cell.number(metric).median or 0 for metric in metrics) for _, _, metrics in CAUSES]


def _largest(variant: Variant) -> MeasuredCell:
    return max((cell for cell in variant.cells if cell.records), key=lambda cell: sum(_parts(cell)))


def _plot(name: str, model: str, known: list[Variant]) -> style.Plot:
    cells = [_largest(variant) for variant in known]
    title = _title(known)
    rows = lay_out(cells, ROW_IN)
    figure, (axis,) = canvas.panels(title, [rows.height_in], note=f"{model}: bytes by cause.", bottom_in=1.1)
    totals = [sum(_parts(cell)) for cell in cells]
    step, unit = next(((s, u) for s, u in BYTE_STEPS if max(totals) >= s), (1, "B"))
    for cell, y_in in zip(cells, rows.middles_in, strict=True):
        _bar(axis, y_in, cell, step=step, widest=max(totals))
    label_rows(axis, rows)
    axis.set_xlim(0, 1.19 * max(totals) / step)
    axis.set_xlabel(f"{unit} (decimal)")
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=6)
    _legend(figure)
    workloads = ", ".join(dict.fromkeys(cell.workload for cell in cells))
    caption = (
        "Weights are counted once, as stored; KV cache and activations are of the workload with the "
        f"largest total ({workloads}). Median over the repeats, n = {min(len(c.records) for c in cells)}. "
        "A cause that was not measured is absent."
    )
    values = "; ".join(
        f"{cell.target}, {cell.name} {cell.method}: {bytes_text(total)} in all, experts {bytes_text(sum(_parts(cell)[:2]))}"
        for cell, total in zip(cells, totals, strict=True)
    )
    alt = f"Stacked bars of memory by cause for {model}. {values}."
    return style.Plot(name, title, caption, alt, canvas.png(figure))


def _bar(axis, y_in: float, cell: MeasuredCell, *, step: float, widest: float) -> None:
    left = 0.0
    for (_, hue, _), part in zip(CAUSES, _parts(cell), strict=True):
        axis.barh(y_in, part / step, 0.64 * ROW_IN, left=left / step, color=hue, edgecolor="white", linewidth=0.6)
        if part > 0.10 * widest:
            number = bytes_text(part).split(" ")[0] if part >= step else f"{part / step:.2f}"
            ink = style.INK if hue in LIGHT else "white"
            axis.text((left + part / 2) / step, y_in, number, ha="center", va="center", fontsize=9, color=ink)
        left += part
    tip = (left / step, y_in)
    axis.annotate(bytes_text(left), tip, (5, 0), textcoords="offset points", va="center", fontsize=10, fontweight="bold")


def _legend(figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=hue, label=label) for label, hue, _ in CAUSES]
    figure.legend(handles=handles, loc="lower left", ncols=4, columnspacing=1.1, handlelength=1.0, handletextpad=0.5)


def _title(known: list[Variant]) -> str:
    shares: dict[str, float] = {}
    for variant in known:
        base = baseline_of(variant, known)
        if variant.is_fp4 and base is not None:
            ratio = variant.expert_bytes().median / base.expert_bytes().median
            shares.setdefault(FORMAT_NAMES[variant.head.weights], 100 * ratio)
    if not shares:
        least = min(known, key=lambda variant: variant.expert_bytes().median)
        return f"{least.head.name} stores the experts in {bytes_text(least.expert_bytes().median)}"
    parts = [f"{name} in {share:.0f} %" for name, share in shares.items()]
    parts[0] = parts[0].replace(" in ", " stores the experts in ", 1)
    return f"{' and '.join(parts)} of BF16's bytes"
