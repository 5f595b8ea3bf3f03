"""The verdict on one metric of two sides: better, worse, same, inconclusive, or not judged.

In: the repeats of both sides, the primary metric, the p after Holm's correction. Out: `Judgement` with everything it
stands on. Side a is the baseline, ratios are b / a.

    worse         the corrected p is at most alpha, the whole interval lies on the worse side of 1, and the
                  ratio reaches the minimum effect        (better: the same on the other side)
    same          the whole interval lies within the minimum effect, with the resolution to spare: a positive claim
                  (two one-sided tests), not the absence of a significant difference
    inconclusive  anything else, fewer than 5 repeats a side included
    not judged    the numbers themselves cannot be used: absent, NaN, without any variation, of other units

The minimum effect is a factor, so its two limits are m and 1 / m.
"""

from dataclasses import dataclass, replace
from statistics import median

from harness.compare.rules import START_FACTOR, Primary, Rules
from harness.compare.values import Values
from harness.metrics import METRICS
from harness.stats.bootstrap import RatioInterval, bootstrap_ratio
from harness.stats.pairs import p_of_interval, paired_ratio, widened
from harness.stats.significance import Significance, holm, mann_whitney, signed_rank

SEED = 0
"""One seed: the same records give the same interval."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One metric of one pair of cells. Ratios are b / a; `verdict` says what they mean for a user of b."""

    metric: str
    unit: str
    direction: str
    min_effect_pct: float
    num_a: int
    num_b: int
    median_a: float | None
    median_b: float | None
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    method: str
    test: str
    verdict: str
    reason: str
    is_paired: bool
    side_at_fault: str = ""
    """`a` or `b` where `verdict` is "not judged" because of one side."""

    @property
    def slowdown(self) -> float | None:
        """The ratio as a factor of worse: above 1 is worse, whichever way the metric points."""
        return None if self.ratio is None else oriented(self.ratio, self.direction)

    @property
    def relative_width(self) -> float | None:
        """Width of the interval as a share of 1."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def is_beyond(self) -> bool:
        """Whether the whole interval lies past the minimum effect, so that more repeats would not change the verdict."""
        if self.low is None or self.verdict not in ("worse", "better"):
            return False
        margin = 1 + self.min_effect_pct / 100
        ends = [oriented(end, self.direction) for end in (self.low, self.high)]
        return min(ends) >= margin or max(ends) <= 1 / margin

    @property
    def is_narrow(self) -> bool:
        """Whether more repeats are not needed: the interval is narrower than half the minimum effect."""
        return self.relative_width is not None and self.relative_width < self.min_effect_pct / 100 / 2


def oriented(ratio: float, direction: str) -> float:
    """A ratio b / a as a factor of worse."""
    return 1 / ratio if direction == "higher" else ratio


def judge_all(sides: list[tuple[Primary, Values, Values]], rules: Rules, *, pairing: str) -> list[Judgement]:
    """Judge every primary metric of a pair of cells, with Holm's correction over them.

    pairing: "repeats" where repeat i of a was measured next to repeat i of b, else "none".
    """
    drafts = [_draft(primary, a, b, rules, pairing) for primary, a, b in sides]
    corrected = holm([draft.p for draft in drafts])
    return [_decide(replace(draft, p_holm=p), rules) for draft, p in zip(drafts, corrected, strict=True)]


def _draft(primary: Primary, a: Values, b: Values, rules: Rules, pairing: str) -> Judgement:
    metric = METRICS[primary.metric]
    empty = RatioInterval(None, None, None, rules.confidence, len(a.numbers), len(b.numbers), 0)
    fault, reason = _problem(a, b)
    x, y = _in_pairs(a, b) if pairing == "repeats" else (a.numbers, b.numbers)
    if reason:
        return _judgement(primary, metric.direction, a, b, empty, Significance(None, "none"), pairing, reason, fault)
    if pairing == "repeats":
        interval, test = _over_pairs(x, y, rules)
    else:
        interval, test = bootstrap_ratio(x, y, confidence=rules.confidence, seed=SEED), mann_whitney(x, y)
    return _judgement(primary, metric.direction, a, b, interval, test, pairing, "", "")


def _over_pairs(x: list[float], y: list[float], rules: Rules) -> tuple[RatioInterval, Significance]:
    """Interval and p of interleaved repeats; both the signed-rank test and the widened interval must be convinced."""
    plain = paired_ratio(x, y, confidence=rules.confidence, seed=SEED, num_resamples=rules.num_resamples)
    interval, test = widened(plain, START_FACTOR), signed_rank(x, y)
    known = [p for p in (test.p, p_of_interval(interval)) if p is not None]
    return interval, test._replace(p=max(known, default=None))


def _in_pairs(a: Values, b: Values) -> tuple[list[float], list[float]]:
    both = [repeat for repeat in a.by_repeat if repeat in b.by_repeat]
    return [a.by_repeat[repeat] for repeat in both], [b.by_repeat[repeat] for repeat in both]


def _problem(a: Values, b: Values) -> tuple[str, str]:
    """(side at fault, why) where the numbers cannot be used."""
    for side, values in (("a", a), ("b", b)):
        if values.problem:
            return side, values.problem
    if a.unit != b.unit:
        return "b", f"is in {b.unit} and its baseline in {a.unit}"
    for side, values in (("a", a), ("b", b)):
        numbers = values.numbers
        if len(numbers) > 1 and len(set(numbers)) == 1:
            text = f"all {len(numbers)} repeats read {numbers[0]:g}: a time without any variation was not measured by a clock"
            return side, text
    return "", ""


def _judgement(primary, direction, a, b, interval, test, pairing, reason, fault) -> Judgement:
    return Judgement(
        metric=primary.metric,
        unit=b.unit or a.unit,
        direction=direction,
        min_effect_pct=primary.min_effect_pct,
        num_a=len(a.numbers),
        num_b=len(b.numbers),
        median_a=median(a.numbers) if a.numbers else None,
        median_b=median(b.numbers) if b.numbers else None,
        ratio=interval.ratio,
        low=interval.low,
        high=interval.high,
        p=test.p,
        p_holm=None,
        method=interval.method,
        test=test.test,
        verdict="not judged" if reason else "",
        reason=reason or interval.reason or test.reason or "",
        is_paired=pairing == "repeats",
        side_at_fault=fault,
    )


def _decide(draft: Judgement, rules: Rules) -> Judgement:
    if draft.verdict:
        return draft
    if draft.low is None:
        return replace(draft, verdict="inconclusive")
    low, high = sorted(oriented(end, draft.direction) for end in (draft.low, draft.high))
    margin = 1 + draft.min_effect_pct / 100
    is_significant = draft.p_holm is not None and draft.p_holm <= rules.alpha
    if is_significant and low > 1 and draft.slowdown >= margin:
        return replace(draft, verdict="worse")
    if is_significant and high < 1 and draft.slowdown <= 1 / margin:
        return replace(draft, verdict="better")
    spare = 1 + rules.resolution_pct / 100
    if low / spare > 1 / margin and high * spare < margin:
        return replace(draft, verdict="same")
    return replace(draft, verdict="inconclusive", reason=_why_open(draft, low, high, rules, is_significant=is_significant))


def _why_open(draft: Judgement, low: float, high: float, rules: Rules, *, is_significant: bool) -> str:
    span = f"the change lies between {_percent(low)} and {_percent(high)} (plus is worse)"
    if is_significant:
        return f"{span}: there is a difference, and whether it reaches {draft.min_effect_pct:g} % is open"
    p = "no test" if draft.p_holm is None else f"corrected p = {draft.p_holm:.3g}"
    if low > 1 or high < 1:
        return f"{span}, but {p} does not reach {rules.alpha:g}: a difference is likely and not shown"
    return f"{span}, {p}: neither a difference nor its absence within {draft.min_effect_pct:g} % is shown"


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.1f} %"
