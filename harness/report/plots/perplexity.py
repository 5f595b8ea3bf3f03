"""Plot of the perplexity change against BF16 with its 95 % paired interval, a figure a model.

In: variants with a heldout cell. Out: Plot. The axis includes zero, which is BF16.
"""

from collections.abc import Iterator, Sequence

from harness.report.numbers import change_decimals, grouped, signed, significant
from harness.report.plots import canvas, style
from harness.report.plots.rows import label_rows, lay_out
from harness.report.variants import Variant

ROW_IN, TOP_IN = 0.46, 0.26
OFF_THE_AXIS = 6.0  # times the largest FP4 end


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for model in dict.fromkeys(variant.head.model for variant in everyone):
        quantized = [v for v in everyone if v.head.model == model and not v.is_baseline]
        known = [variant for variant in quantized if _change(variant)[0] is not None]
        name = style.slug("perplexity", model)
        if known:
            yield _plot(name, model, known)
        else:
            reason = "only BF16 was measured"
            if quantized:
                reason = quantized[0].quality("perplexity_change_pct").reason
            yield style.Skipped(name, reason or "no reason was recorded")


def _change(variant: Variant) -> tuple[float | None, float | None, float | None]:
    names = ("perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct")
    return tuple(variant.quality(name).median for name in names)


def _text(variant: Variant) -> tuple[str, str]:
    """('+1.3 %', '[+1.1, +1.5]')."""
    value, low, high = _change(variant)
    decimals = change_decimals(value, low, high)
    known = low is not None and high is not None
    return (
        f"{signed(value, decimals)} %",
        f"[{signed(low, decimals)}, {signed(high, decimals)}]" if known else "",
    )


def _plot(name: str, model: str, known: list[Variant]) -> style.Plot:
    title = _title(known)
    rows = lay_out([variant.heldout for variant in known], ROW_IN, top_in=TOP_IN)
    note = f"{model}, held-out text. Lower is better."
    figure, (axis,) = canvas.panels(title, [rows.height_in], note=note)
    low_end, high_end = min(0.0, *(_ends(v)[0] for v in known)), _axis_end(known)
    span = (high_end - low_end) or 1.0
    for variant, y_in in zip(known, rows.middles_in, strict=True):
        if _change(variant)[0] <= high_end:
            _interval(axis, variant, y_in)
        else:
            _off_the_axis(axis, variant, y_in)
    axis.axvline(0, color=style.color("bf16"), linewidth=1.6)
    axis.text(0, TOP_IN / 2, " BF16", va="center", ha="left", fontsize=9.5, color=style.MUTED)
    axis.set_xlim(low_end - 0.06 * span, high_end + 0.82 * span)
    label_rows(axis, rows)
    axis.set_xlabel("perplexity change against BF16, %")
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=6)
    alt = "; ".join(f"{v.head.target}, {v.head.name} {v.head.method}: {' '.join(_text(v))}" for v in known)
    alt = f"Perplexity change against BF16 with 95 % intervals for {model}. {alt}."
    return style.Plot(name, title, _caption(known), alt, canvas.png(figure))


def _interval(axis, variant: Variant, y_in: float) -> None:
    value, low, high = _change(variant)
    hue = style.color(variant.head.weights)
    if low is not None and high is not None:
        axis.plot([low, high], [y_in, y_in], color=hue, linewidth=2.2, solid_capstyle="butt")
        axis.plot([low, high], [y_in, y_in], "|", markersize=11, markeredgewidth=2.0, color=hue)
    axis.plot(value, y_in, "o", color=hue, markersize=8, markeredgecolor="white")
    state = variant.heldout.state
    text = "  ".join((*_text(variant), *([state] if state != "VALID" else [])))
    axis.annotate(text, (_ends(variant)[1], y_in), (9, 0), textcoords="offset points", va="center", fontsize=10)


def _off_the_axis(axis, variant: Variant, y_in: float) -> None:
    place, hue = axis.get_yaxis_transform(), style.color(variant.head.weights)
    axis.plot(0.985, y_in, ">", transform=place, color=hue, markersize=9, clip_on=False)
    text = f"off the axis:  {'  '.join(_text(variant))}"
    axis.text(0.955, y_in, text, transform=place, ha="right", va="center", fontsize=10)


def _ends(variant: Variant) -> tuple[float, float]:
    ends = [end for end in _change(variant) if end is not None]
    return min(ends), max(ends)


def _axis_end(known: list[Variant]) -> float:
    """The largest end; that of the FP4 formats where another is so far off that it would squeeze them."""
    largest = max(0.0, *(_ends(variant)[1] for variant in known))
    of_fp4 = max((_ends(variant)[1] for variant in known if variant.is_fp4), default=0.0)
    return of_fp4 if 0 < OFF_THE_AXIS * of_fp4 < largest else largest


def _caption(known: list[Variant]) -> str:
    counts = [v.quality("num_scored_tokens").median or v.quality("perplexity_change_pct").num_samples for v in known]
    tokens = " and ".join(dict.fromkeys(grouped(num) for num in counts))
    best = known[0].quality("perplexity").median
    tail = f" {known[0].head.name} reaches a perplexity of {significant(best, 4)}." if best else ""
    return f"Point: change; bar: 95 % interval, paired by token against BF16; n = {tokens} tokens, scored once.{tail}"


def _title(known: list[Variant]) -> str:
    fp4 = [variant for variant in known if variant.is_fp4] or known
    best, worst = (pick(fp4, key=lambda v: _change(v)[0]) for pick in (min, max))
    first = f"{best.head.name} changes perplexity by {_text(best)[0]}"
    return first if best.head.name == worst.head.name else f"{first}, {worst.head.name} by {_text(worst)[0]}"
