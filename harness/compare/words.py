"""How a comparison reads: names of sides, a verdict's word and tone, a lead sentence.

In: Comparison and its parts. Out: text that the terminal, Markdown and HTML share.
"""

from collections import Counter

from harness.compare.build import Comparison, PairResult
from harness.compare.exact import ExactChange
from harness.compare.judge import Judgement, oriented
from harness.metrics import METRICS
from harness.report.cells import MeasuredCell
from harness.report.numbers import DASH, count, quantity, signed, significant

VERDICTS = ("worse", "better", "same", "inconclusive", "not judged")
MARKS = {"worse": "✕", "better": "✓", "same": "=", "inconclusive": "?", "not judged": "–"}
TONES = {"worse": "invalid", "better": "valid", "same": "muted", "inconclusive": "warn", "not judged": "muted"}


def side_name(cell: MeasuredCell, across: str) -> str:
    """What tells the two sides apart: target or run, precision, backend."""
    if across == "precision":
        return cell.name if cell.method == "none" else f"{cell.name} ({cell.method})"
    if across == "backend":
        return cell.backend
    return cell.target


def cell_name(cell: MeasuredCell, across: str) -> str:
    """What the two sides share."""
    method = "" if cell.method == "none" else f" ({cell.method})"
    parts = {"precision": f"{cell.name}{method}", "backend": "" if cell.backend == "native" else cell.backend, "run": ""}
    kept = [text for axis, text in parts.items() if axis != across and text]
    place = [] if across == "run" else [cell.target]
    return " · ".join([*place, cell.model, *kept, cell.workload])


def percent(factor: float) -> str:
    """A ratio as a change: 1.102 -> '+10.2 %'."""
    digits = 1 if abs(factor - 1) >= 0.01 else 2
    return f"{signed(100 * (factor - 1), digits)} %"


def figure(value: float | None, unit: str) -> str:
    """A value with its unit; perplexity and nats to four digits, since that is where precisions differ."""
    if value is None:
        return DASH
    return significant(value, 4) if unit in ("1", "nats") else quantity(value, unit)


def change_of(item: Judgement | ExactChange) -> str:
    """The ratio b / a as a change of the figure itself."""
    return "" if item.ratio is None else percent(item.ratio)


def interval_of(item: Judgement | ExactChange) -> str:
    """`[−1.2 %, +3.4 %]`, or nothing where there is none."""
    return "" if item.low is None else f"[{percent(item.low)}, {percent(item.high)}]"


def counts(comparison: Comparison) -> dict[str, int]:
    """Number of primary judgements by verdict."""
    found = Counter(judgement.verdict for result in comparison.results for judgement in result.judgements)
    return {verdict: found.get(verdict, 0) for verdict in VERDICTS}


def leads(comparison: Comparison) -> list[str]:
    """The sentences that open the report."""
    total = sum(counts(comparison).values())
    pairs = count(len(comparison.results), "pair")
    opening = f"{pairs} of cells compared across {comparison.across}s."
    if not total:
        return [f"{opening} No timed metric was judged: there are only exact figures."]
    parts = [f"{number} {verdict}" for verdict, number in counts(comparison).items() if number]
    sentences = [f"{opening} Of {count(total, 'judgement')}: {', '.join(parts)}."]
    largest = _largest(comparison)
    if largest is not None:
        result, judgement = largest
        a, b = (side_name(cell, comparison.across) for cell in (result.pair.a, result.pair.b))
        where = f"{judgement.metric} at {cell_name(result.pair.b, comparison.across)}"
        figure = f"{change_of(judgement)} {interval_of(judgement)}"
        sentences.append(f"The largest difference that is shown: {b} is {judgement.verdict} than {a} in {where}: {figure}.")
    return sentences


def _largest(comparison: Comparison) -> tuple[PairResult, Judgement] | None:
    shown = [(r, j) for r in comparison.results for j in r.judgements if j.verdict in ("worse", "better")]
    return max(shown, key=lambda item: max(item[1].slowdown, 1 / item[1].slowdown), default=None)


def method_note(comparison: Comparison) -> str:
    """How the verdicts were reached, in one paragraph."""
    effects = ", ".join(f"{item.metric} {item.min_effect_pct:g} %" for item in comparison.rules.primary)
    return (
        f"Ratio of medians over repeats with a {100 * comparison.rules.confidence:g} % bootstrap interval; Mann-Whitney U, "
        f"corrected after Holm for the primary metrics of a cell, level {comparison.rules.alpha:g}. Interleaved repeats are "
        f"compared in pairs. Smallest effect that matters: {effects}. Better or worse: significant, and at least that large. "
        "Same: the whole interval lies within it. Everything else is inconclusive, which is not the same as same."
    )


def is_worse_when(metric: str, ratio: float) -> bool:
    """Whether a ratio b / a above or below 1 is for the worse."""
    return oriented(ratio, METRICS[metric].direction) > 1
