"""Whether a stored baseline may judge a timed metric: only on a machine that is quieter than the effect looked for.

In: a judgement over runs that were not interleaved, and both sides' repeats. Out: the judgement, or an inconclusive one.

Two runs taken at different times see different load, clocks and temperature, and no test over the repeats of each can see
that: on a shared machine two equal runs an hour apart differ "significantly". What the repeats do show is how much the
machine varies. Where they spread by more than the minimum effect, no timed verdict stands.
"""

from dataclasses import replace
from statistics import median, quantiles

from harness.compare.judge import Judgement
from harness.compare.values import Values

MIN_FOR_QUARTILES = 4


def quiet_enough(judgement: Judgement, a: Values, b: Values) -> Judgement:
    """`judgement`, made inconclusive where the spread of the repeats is larger than the minimum effect."""
    if judgement.verdict not in ("worse", "better", "same"):
        return judgement
    spread = max(relative_spread(a.numbers), relative_spread(b.numbers))
    if spread <= judgement.min_effect_pct / 100:
        return judgement
    reason = (
        f"repeats spread by {100 * spread:.1f} % (quartile distance), more than the {judgement.min_effect_pct:g} % looked for: "
        "this machine is too unsteady for a stored baseline. Measure both commits in turn with --ab"
    )
    return replace(judgement, verdict="inconclusive", reason=reason)


def relative_spread(numbers: list[float]) -> float:
    """Quartile distance over the median; 0 for fewer than 4 repeats, which have no verdict anyway."""
    if len(numbers) < MIN_FOR_QUARTILES:
        return 0.0
    low, _, high = quantiles(numbers, n=4, method="inclusive")
    return (high - low) / abs(median(numbers))
