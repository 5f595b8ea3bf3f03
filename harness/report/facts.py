"""Memory, quality and speed of one variant beside BF16: a figure, its line, and words for a sentence.

In: a variant and its baseline. Out: Fact. A speed of the reference implementation is never set against
BF16's: the figure is a dash and the line says why.
"""

from dataclasses import dataclass

from harness.report.cells import REFERENCE_SPEED, MeasuredCell, Number
from harness.report.grid import range_text
from harness.report.numbers import (
    DASH,
    bytes_text,
    change_decimals,
    grouped,
    quantity,
    signed,
    significant,
    times,
    times_range,
)
from harness.report.variants import Variant

THROUGHPUT = "output_throughput"
TIMES_WHAT = " BF16's tokens/s"


@dataclass(frozen=True, slots=True)
class Fact:
    """A short figure, the line that explains it, and the same as a part of a sentence."""

    figure: str
    detail: str
    words: str


def memory_fact(variant: Variant, baseline: Variant | None) -> Fact:
    """Bytes of the experts, scales included, beside BF16's."""
    own, model = variant.expert_bytes(), variant.head.model
    if own.median is None:
        return Fact(DASH, f"not measured: {own.reason}", f"has no memory figure ({own.reason})")
    text = bytes_text(own.median)
    base = baseline.expert_bytes() if baseline else Number(None, reason="no BF16 was measured beside it")
    if base.median is None:
        words = f"keeps {model}'s experts in {text} ({base.reason})"
        return Fact(text, f"experts with scales; {base.reason}", words)
    if own.median >= base.median:
        return Fact("no less", f"experts: {text}", f"keeps {model}'s experts in {text}, no less than BF16")
    ratio, before = times(base.median / own.median), bytes_text(base.median)
    words = f"keeps {model}'s experts in {text} instead of {before} ({ratio} less)"
    return Fact(f"{ratio} less", f"experts: {text} instead of {before}", words)


def quality_fact(variant: Variant) -> Fact:
    """Change of perplexity against BF16 with its 95 % paired interval and the tokens scored."""
    change = variant.quality("perplexity_change_pct")
    if change.median is None:
        return _no_change(variant, change.reason or "")
    low, high = (variant.quality(f"perplexity_change_{end}_pct").median for end in ("low", "high"))
    decimals = change_decimals(change.median, low, high)
    figure = f"{signed(change.median, decimals)} %"
    tokens = variant.quality("num_scored_tokens").median or change.num_samples
    interval = "no interval recorded"
    unclear = low is not None and high is not None and low <= 0 <= high
    if low is not None and high is not None:
        interval = f"95 % interval {signed(low, decimals)} to {signed(high, decimals)}"
    detail = f"{interval}, n = {grouped(tokens)} tokens" + ("; not told apart from zero" if unclear else "")
    costs = change.median > 0 and not unclear
    words = f"costs {figure} perplexity" if costs else f"changes perplexity by {figure}"
    return Fact(figure, f"perplexity; {detail}", f"{words} ({detail})")


def _no_change(variant: Variant, reason: str) -> Fact:
    absolute = variant.quality("perplexity").median
    if absolute is None:
        return Fact(DASH, f"not measured: {reason}", f"has no quality figure ({reason})")
    text = f"perplexity {significant(absolute, 4)}"
    return Fact(DASH, f"{text}; change not measured: {reason}", f"reaches {text} (change not measured: {reason})")


def speed_fact(variant: Variant, baseline: Variant | None) -> Fact:
    """Output tokens/s beside BF16's, workload by workload."""
    cells = [cell for cell in variant.requests if cell.number(THROUGHPUT).median is not None]
    if not cells:
        reason = "no request workload in this run"
        if variant.requests:
            reason = variant.requests[0].number(THROUGHPUT).reason or reason
        return Fact(DASH, f"not measured: {reason}", f"Its speed was not measured ({reason}).")
    if any(cell.is_reference for cell in cells):
        return Fact(DASH, REFERENCE_SPEED, "Its speed here is the reference implementation's, not FP4's.")
    pairs = [(cell, other) for cell in cells if (other := _same_workload(cell, baseline)) is not None]
    if not pairs:
        text = quantity(cells[0].number(THROUGHPUT).median, "tokens/s")
        words = f"It puts out {text} at {cells[0].workload}; no BF16 speed was measured beside it."
        return Fact(text, f"output, {cells[0].workload}; no BF16 speed was measured beside it", words)
    parts = [_ratio(cell, other) for cell, other in pairs]
    texts = [
        f"{times(ratio)}{TIMES_WHAT if index == 0 else ''} at {cell.workload}{note}"
        for index, ((cell, _), (ratio, note)) in enumerate(zip(pairs, parts, strict=True))
    ]
    rates = "\n".join(f"{cell.workload}: {_rates(cell, other)}" for cell, other in pairs)
    figure = times_range([ratio for ratio, _ in parts])
    return Fact(figure, f"output tokens/s, n = {_num_repeats(pairs)}\n{rates}", f"It puts out {', '.join(texts)}.")


def _same_workload(cell: MeasuredCell, baseline: Variant | None) -> MeasuredCell | None:
    for other in baseline.requests if baseline else ():
        same = other.workload == cell.workload and not other.is_reference
        if same and other.number(THROUGHPUT).median:
            return other
    return None


def _ratio(cell: MeasuredCell, other: MeasuredCell) -> tuple[float, str]:
    own, base = cell.number(THROUGHPUT), other.number(THROUGHPUT)
    note = " (within the spread of the repeats)" if own.has_spread and own.overlaps(base) else ""
    return own.median / base.median, note if own.has_spread else " (1 repeat)"


def _rates(cell: MeasuredCell, other: MeasuredCell) -> str:
    own, base = (found.number(THROUGHPUT) for found in (cell, other))
    return f"{range_text(own.low, own.high, '')} against {range_text(base.low, base.high, '')}"


def _num_repeats(pairs: list[tuple[MeasuredCell, MeasuredCell]]) -> str:
    counts = sorted({cell.number(THROUGHPUT).num_repeats for pair in pairs for cell in pair})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
