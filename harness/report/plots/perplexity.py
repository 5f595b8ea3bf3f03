"""Plot of the perplexity change against BF16 with its 95 % paired interval, a figure a model.

In: variants with a heldout cell. Out: Plot. The axis includes zero, which is BF16.
"""

from collections.abc import Iterator, Sequence

from harness.report.numbers import change_decimals, grouped, signed, significant
from harness.report.plots import style
from harness.report.variants import Variant

ROW_IN = 0.5


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    for model in dict.fromkeys(variant.head.model for variant in everyone):
        ours = [
            v for v in everyone if v.head.model == model and not v.is_baseline and _change(v)[0] is not None
        ]
        name = style.slug("perplexity", model)
        if ours:
            yield _plot(name, model, ours)
            continue
        quantized = [v for v in everyone if v.head.model == model and not v.is_baseline]
        reason = (
            quantized[0].quality("perplexity_change_pct").reason if quantized else "only BF16 was measured"
        )
        yield style.Skipped(name, f"{model}: {reason}")


def _change(variant: Variant) -> tuple[float | None, float | None, float | None]:
    names = ("perplexity_change_pct", "perplexity_change_low_pct", "perplexity_change_high_pct")
    return tuple(variant.quality(name).median for name in names)


def _text(variant: Variant) -> str:
    value, low, high = _change(variant)
    decimals = change_decimals(value, low, high)
    interval = "" if low is None or high is None else f"  [{signed(low, decimals)}, {signed(high, decimals)}]"
    return f"{signed(value, decimals)} %{interval}"


def _plot(name: str, model: str, ours: list[Variant]) -> style.Plot:
    title = _title(ours)
    several = len({variant.head.target for variant in ours}) > 1
    figure, (axis,) = style.panels(
        title, [ROW_IN * len(ours) + 0.15], note=f"{model}, held-out text. Lower is better.", left_in=1.45
    )
    ends = [end for variant in ours for end in _change(variant) if end is not None]
    low_end, high_end = min(0.0, *ends), max(0.0, *ends)
    span = (high_end - low_end) or 1.0
    for row, variant in enumerate(ours):
        value, low, high = _change(variant)
        hue = style.color(variant.head.weights)
        if low is not None and high is not None:
            axis.plot([low, high], [row, row], color=hue, linewidth=2.2, solid_capstyle="butt")
            axis.plot(
                [low, high],
                [row, row],
                linestyle="none",
                marker="|",
                markersize=11,
                markeredgewidth=2.0,
                color=hue,
            )
        axis.plot(value, row, "o", color=hue, markersize=8, markeredgecolor="white")
        axis.text(
            max(end for end in _change(variant) if end is not None) + 0.03 * span,
            row,
            _text(variant),
            va="center",
            fontsize=10,
        )
    axis.axvline(0, color=style.color("bf16"), linewidth=1.6)
    axis.text(0, -0.56, " BF16", va="center", ha="left", fontsize=9.5, color=style.MUTED)
    axis.set_xlim(low_end - 0.06 * span, high_end + 0.62 * span)
    axis.set_ylim(len(ours) - 0.5, -0.8)
    labels = [f"{v.head.name}\n{v.head.target[:18]}" if several else style.row_label(v.head) for v in ours]
    axis.set_yticks(range(len(ours)), labels, linespacing=1.05)
    axis.set_xlabel("perplexity change against BF16, %")
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=6)
    tokens = dict.fromkeys(
        grouped(v.quality("num_scored_tokens").median or v.quality("perplexity_change_pct").num_samples)
        for v in ours
    )
    base = next((v.quality("perplexity").median for v in ours), None)
    caption = (
        f"Point: change; bar: 95 % interval, paired by token against BF16; n = {' and '.join(tokens)} tokens scored once."
        + (f" {ours[0].head.name} reaches a perplexity of {significant(base, 4)}." if base else "")
    )
    alt = "; ".join(f"{v.head.target}, {v.head.name} {v.head.method}: {_text(v)}" for v in ours)
    return style.Plot(
        name,
        title,
        caption,
        f"Perplexity change against BF16 with 95 % intervals for {model}. {alt}.",
        style.png(figure),
    )


def _title(ours: list[Variant]) -> str:
    best, worst = (pick(ours, key=lambda v: _change(v)[0]) for pick in (min, max))
    first = f"{best.head.name} changes perplexity by {_text(best).split('  ')[0]}"
    return first if best is worst else f"{first}, {worst.head.name} by {_text(worst).split('  ')[0]}"
