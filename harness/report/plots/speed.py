"""Plots of throughput and of time to first token by precision, a figure a model.

In: variants. Out: Plot. The title is the ratio to BF16 where an FP4 kernel ran; where the reference
implementation ran, the title says that this is not FP4's speed and compares nothing.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.numbers import quantity, times_range
from harness.report.plots import style
from harness.report.plots.bars import draw_bars
from harness.report.variants import Variant, baseline_of

THROUGHPUT, TTFT = "output_throughput", "median_ttft_ms"
MEANING = {
    THROUGHPUT: "Output tokens/s = tokens out / wall time from first submit to last token, prefill included. Higher is better.",
    TTFT: "Median over the requests of a repeat, from submit to first token. Lower is better.",
}
AXIS = {THROUGHPUT: "output tokens/s", TTFT: "time to first token, ms"}
KIND = {THROUGHPUT: "throughput", TTFT: "ttft"}


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    """A throughput and a TTFT plot for every model."""
    for model in dict.fromkeys(variant.head.model for variant in everyone):
        ours = [variant for variant in everyone if variant.head.model == model and variant.requests]
        for metric in (THROUGHPUT, TTFT):
            cells = [cell for variant in ours for cell in variant.requests if cell.number(metric).median is not None]
            name = style.slug(KIND[metric], model)
            if not cells:
                yield style.Skipped(name, f"no cell of {model} measured {metric}")
            else:
                yield _plot(name, model, ours, cells, metric)


def _plot(name: str, model: str, ours: list[Variant], cells: list[MeasuredCell], metric: str) -> style.Plot:
    title = _title(ours, cells, metric)
    note = f"{model}. " + (f"Hatched: {REFERENCE_SPEED}." if any(cell.is_reference for cell in cells) else "")
    png = draw_bars(title, ours, metric, axis_label=AXIS[metric], note=note)
    repeats = sorted({cell.number(metric).num_repeats for cell in cells})
    size = f"n = {repeats[0]}" if len(repeats) == 1 else f"n = {repeats[0]} to {repeats[-1]}"
    caption = f"{MEANING[metric]} Bars: median over the repeats ({size}); error bars: min–max over the repeats."
    values = "; ".join(
        f"{cell.target}, {cell.name} {cell.method}, {cell.workload}: "
        f"{quantity(cell.number(metric).median, cell.number(metric).unit)}"
        + (f" ({REFERENCE_SPEED})" if cell.is_reference else "")
        for cell in cells
    )
    return style.Plot(name, title, caption, f"Bar chart of {AXIS[metric]} for {model}. {values}.", png)


def _title(ours: list[Variant], cells: list[MeasuredCell], metric: str) -> str:
    what = "Throughput" if metric == THROUGHPUT else "Time to first token"
    if any(cell.is_reference for cell in cells):
        return f"{what} of the reference implementation: not FP4's speed"
    fp4 = next((variant for variant in ours if variant.is_fp4 and baseline_of(variant, ours)), None)
    if fp4 is None or len({variant.head.target for variant in ours}) > 1:
        return _best(cells, metric, what)
    base = baseline_of(fp4, ours)
    pairs = [
        (cell.number(metric), other.number(metric))
        for cell in fp4.requests
        for other in base.requests
        if cell.workload == other.workload
    ]
    pairs = [(own, other) for own, other in pairs if own.median is not None and other.median]
    if not pairs:
        return _best(cells, metric, what)
    ratios = sorted(own.median / other.median for own, other in pairs)
    span = times_range(ratios)
    if all(own.has_spread and own.overlaps(other) for own, other in pairs):
        return f"{what}: {fp4.head.name} and BF16 differ by no more than their repeats do"
    if metric == THROUGHPUT:
        return f"{fp4.head.name} gives {span} BF16's output tokens/s"
    return f"{fp4.head.name} takes {span} BF16's time to first token"


def _best(cells: list[MeasuredCell], metric: str, what: str) -> str:
    sign = 1 if metric == THROUGHPUT else -1
    best = max(cells, key=lambda cell: sign * cell.number(metric).median)
    number = best.number(metric)
    word = "highest" if metric == THROUGHPUT else "lowest"
    figure = quantity(number.median, number.unit)
    return f"{what}: {word} with {best.name} on {best.target}, {figure} at {best.workload}"
