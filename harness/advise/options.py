"""Every way to run the model on the GPU, with fit, speed under the load, and cost in quality.

In: a Question. Out: Option rows, the advisable first: those that meet the limits even at the slow end of the projection,
then those that may; among them the smallest rise of perplexity; then the fastest. What does not fit comes last.
"""

from dataclasses import dataclass

from harness.advise.ask import Question
from harness.project.curves import data_file
from harness.project.load import Load, highest_rate, steady_state
from harness.project.loo import expected_error_pct
from harness.project.memory import Fit
from harness.project.projection import Ask, Projection, project_all

YES, MAYBE, NO = "yes", "maybe", "no"
MEETS_ORDER = (YES, MAYBE, NO)
ACTIVATION_BITS = {"bf16": "a16", "fp8": "a8"}


@dataclass(frozen=True, slots=True)
class Quality:
    """Rise of perplexity of pocket-mixtral under this precision; None and a reason where it was not measured."""

    change_pct: float | None
    low_pct: float | None
    high_pct: float | None
    precision: str
    source: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One engine, kernel and precision. `loads` by end of the projection: best, middle, worst."""

    projection: Projection
    quality: Quality
    loads: dict[str, Load]
    meets: str
    sure_rate: float
    """Requests/s up to which the limits hold at the slow end."""
    reason: str | None

    @property
    def name(self) -> str:
        row = self.projection.candidate
        return f"{self.projection.label}, {row.engine} {row.kernel}"

    @property
    def fit(self) -> Fit:
        return self.projection.fit


def options(question: Question) -> list[Option]:
    """All that run on the GPU, best first."""
    ask = Ask(question.prompt, question.output, 1)
    found = [_option(question, row) for row in project_all(question.gpu, question.model, ask)]
    return sorted(found, key=_rank)


def _rank(option: Option) -> tuple:
    cost = option.quality.change_pct
    load = option.loads.get("middle")
    speed = load.tpot_ms if load is not None and load.tpot_ms is not None else float("inf")
    return MEETS_ORDER.index(option.meets), option.reason is not None, float("inf") if cost is None else max(cost, 0.0), speed


def _option(question: Question, row: Projection) -> Option:
    quality = quality_of(row.candidate.weights, row.candidate.activations)
    if row.reason is not None:
        return Option(row, quality, {}, NO, 0.0, row.reason)
    lengths, most = (question.prompt, question.output), row.fit.max_batch
    ends = ("middle",) if row.is_validated else ("best", "middle", "worst")
    loads = {end: steady_state(row.step, question.rate_per_s, *lengths, max_batch=most, end=end) for end in ends}
    slow = loads.get("worst", loads["middle"])
    fast = loads.get("best", loads["middle"])
    strict, lenient = limits(row, question.slo)
    meets = YES if slow.meets(strict) else MAYBE if fast.meets(lenient) else NO
    sure = highest_rate(row.step, *lengths, strict, max_batch=most, end=slow_end(row))
    reason = None if fast.reason is None else fast.reason
    limit = question.max_loss_pct
    if limit is not None and (quality.change_pct is None or quality.change_pct > limit):
        shown = "not measured" if quality.change_pct is None else f"{quality.change_pct:+.2f} %"
        return Option(row, quality, loads, NO, sure, f"perplexity {shown}, asked for at most {limit:g} %")
    return Option(row, quality, loads, meets, sure, reason)


def limits(row: Projection, slo: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Limits for "surely" and for "perhaps": on a measured architecture moved by the projection's error either way."""
    if not row.is_validated:
        return slo, slo
    factors = {name: 1 + expected_error_pct(name == "ttft") / 100 for name in slo}
    strict = {name: limit / factors[name] for name, limit in slo.items()}
    return strict, {name: limit * factors[name] for name, limit in slo.items()}


def slow_end(row: Projection) -> str:
    """Which end of a projection counts for "surely"."""
    return "middle" if row.is_validated else "worst"


def quality_of(weights: str, activations: str) -> Quality:
    """The best recorded method of that pair of formats."""
    bits = ACTIVATION_BITS.get(activations, "a4")
    rows = [row for row in data_file("calibration.json")["quality"] if _is_pair(row["precision"], weights, bits)]
    if weights == "bf16" and rows:
        return Quality(0.0, 0.0, 0.0, rows[0]["precision"], rows[0]["source"])
    known = [row for row in rows if row["perplexity_change_pct"] is not None]
    if not known:
        return Quality(None, None, None, f"{weights}-{bits}", "", "not measured; add it to scenarios/quality.yaml")
    best = min(known, key=lambda row: row["perplexity_change_pct"])
    ends = best["perplexity_change_low_pct"], best["perplexity_change_high_pct"]
    return Quality(best["perplexity_change_pct"], *ends, best["precision"], best["source"])


def _is_pair(precision: str, weights: str, bits: str) -> bool:
    parts = precision.split("-")
    return parts[0] == weights and parts[-1] == bits
