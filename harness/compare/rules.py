"""What a comparison judges: at most three primary metrics, the smallest effect of each that matters, the levels.

In: `gates.primary` of a scenario, or `--metric NAME=PERCENT`, else the defaults. Out: `Rules`.

An effect is a slowdown factor: b over a where lower is better, a over b where higher is, so that a delay of 10 % reads
10 % in milliseconds and in tokens a second. More than three metrics cannot be judged together: at 5 repeats against 5
the smallest p of Mann-Whitney is .0079, and Holm's correction multiplies it by their number.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.metrics.primary import primary_problem
from harness.stats.pairs import NUM_RESAMPLES

MAX_PRIMARY = 3
COMPARE_ALPHA = 0.05
GATE_ALPHA = 0.01
"""Two-sided and over the family: half of it, 0.5 %, is what chance calls worse where the noise is so large that the minimum
effect does not protect. Looking several times may double that (counted in results/baselines/gate-study)."""
CONFIDENCE = 0.95
RESOLUTION_PCT = 1.0
"""Two starts of one program differ by about this much in where their memory lies (measured: decision 0042), which repeats of
one start cannot show. An interval counts as within the minimum effect only with this much to spare."""


START_FACTOR = 1.4
"""How much wider an interval over interleaved pairs is than its pairs alone make it: pairs of one start of the workers share
what the start brought. Measured: medians of starts varied by 5.7 % where their pairs predict 3.6 % (decision 0042)."""


@dataclass(frozen=True, slots=True)
class Primary:
    """A metric to judge. A slowdown or speedup factor below 1 + min_effect_pct / 100 does not matter."""

    metric: str
    min_effect_pct: float

    @property
    def margin(self) -> float:
        return 1 + self.min_effect_pct / 100


@dataclass(frozen=True, slots=True)
class Rules:
    """Primary metrics and the level of the tests, which is that of the family after Holm's correction."""

    primary: tuple[Primary, ...]
    alpha: float = COMPARE_ALPHA
    confidence: float = CONFIDENCE
    resolution_pct: float = RESOLUTION_PCT
    num_resamples: int = NUM_RESAMPLES
    """Of the interval over interleaved pairs."""


DEFAULT_PRIMARY = (
    Primary("output_throughput", 3.0),
    Primary("median_ttft_ms", 5.0),
    Primary("median_itl_ms", 3.0),
)
EXACT_MIN_EFFECT_PCT = 0.1
"""Perplexity and memory: below this a change is called the same."""


def make_rules(primary: Iterable[Primary] = (), *, alpha: float = COMPARE_ALPHA) -> Rules:
    """Rules with these primary metrics, or the defaults; UsageError for one that cannot be judged."""
    chosen = tuple(primary) or DEFAULT_PRIMARY
    if len(chosen) > MAX_PRIMARY:
        raise UsageError(
            f"primary metrics: at most {MAX_PRIMARY} can be judged together (got {len(chosen)}); "
            "with more, no result over few repeats could ever be significant"
        )
    for item in chosen:
        problem = primary_problem(item.metric)
        if problem:
            raise UsageError(f"primary metric {item.metric!r}: {problem}")
    return Rules(chosen, alpha)


def parse_metric(text: str) -> Primary:
    """`median_ttft_ms=5` -> Primary; UsageError for anything else."""
    name, equals, percent = text.partition("=")
    try:
        value = float(percent.rstrip("%")) if equals else _default_effect(name)
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise UsageError(f"--metric {text!r}: must be NAME=PERCENT with 0 < PERCENT <= 100, for example median_ttft_ms=5")
    return Primary(name.strip(), value)


def _default_effect(name: str) -> float:
    return next((item.min_effect_pct for item in DEFAULT_PRIMARY if item.metric == name), 3.0)
