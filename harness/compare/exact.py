"""Metrics that repeat to the last digit: perplexity, KL, bytes of memory. One value a side, no test.

In: two cells and a metric. Out: `ExactChange`, with the interval of a perplexity change paired by token where both runs
kept the NLL of each token. Across machines a perplexity differs in its last digits; the minimum effect covers that.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.collect.tables import read_token_nll
from harness.compare.judge import oriented
from harness.compare.rules import EXACT_MIN_EFFECT_PCT
from harness.compare.values import Values, values_of
from harness.metrics import METRICS
from harness.report.cells import MeasuredCell
from harness.stats import StatsError
from harness.stats.paired import perplexity_change

SHOWN = (
    "perplexity",
    "mean_kl_nats",
    "weight_bytes",
    "kv_cache_bytes",
    "activation_peak_bytes",
)

SHARE_OF_GPU = "vllm"
"""This backend's cache is a share of the GPU's memory, whatever the load needs: more of it is neither better nor worse."""


@dataclass(frozen=True, slots=True)
class ExactChange:
    """One metric of a pair of cells, value against value. low, high: interval of the ratio, None where there is none."""

    metric: str
    unit: str
    value_a: float | None
    value_b: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str


def exact_changes(a: MeasuredCell, b: MeasuredCell) -> list[ExactChange]:
    """Every metric of SHOWN that at least one side has."""
    found = [(metric, values_of(a, metric), values_of(b, metric)) for metric in SHOWN]
    return [_change(metric, x, y, a, b) for metric, x, y in found if x.numbers or y.numbers]


def _change(metric: str, x: Values, y: Values, a: MeasuredCell, b: MeasuredCell) -> ExactChange:
    for side, values in (("a", x), ("b", y)):
        if not values.numbers:
            other = (None, y.numbers[0]) if side == "a" else (x.numbers[0], None)
            return ExactChange(metric, x.unit or y.unit, *other, None, None, None, "not judged", values.problem or "absent")
        if len(set(values.numbers)) > 1:
            text = f"its repeats differ ({min(values.numbers):g} to {max(values.numbers):g}), though it should be exact"
            return ExactChange(metric, x.unit, x.numbers[0], y.numbers[0], None, None, None, "not judged", text)
    one, two = x.numbers[0], y.numbers[0]
    if metric == "kv_cache_bytes" and SHARE_OF_GPU in (a.backend, b.backend):
        reason = f"{SHARE_OF_GPU} takes a share of the GPU's memory for it, whatever the load needs"
        return ExactChange(metric, x.unit, one, two, None, None, None, "not judged", reason)
    if one <= 0 or two <= 0:
        same = one == two
        verdict, reason = ("same", "") if same else ("not judged", "a ratio needs positive values")
        return ExactChange(metric, x.unit, one, two, 1.0 if same else None, None, None, verdict, reason)
    low, high, reason = _interval(metric, a, b)
    return ExactChange(metric, x.unit, one, two, two / one, low, high, _verdict(metric, two / one), reason)


def _verdict(metric: str, ratio: float) -> str:
    margin = 1 + EXACT_MIN_EFFECT_PCT / 100
    factor = oriented(ratio, METRICS[metric].direction)
    return "worse" if factor >= margin else "better" if factor <= 1 / margin else "same"


def _interval(metric: str, a: MeasuredCell, b: MeasuredCell) -> tuple[float | None, float | None, str]:
    """(low, high, why there is none) of a perplexity's ratio, paired by token."""
    if metric != "perplexity":
        return None, None, ""
    paths = [_token_nll(cell) for cell in (a, b)]
    if None in paths:
        return _recorded_interval(a, b)
    try:
        (nll_a, window_a), (nll_b, window_b) = (read_token_nll(path) for path in paths)
        change = perplexity_change(nll_a, nll_b, window_a, window_b=window_b)
    except (OSError, ValueError, KeyError, StatsError) as error:
        return None, None, f"no interval: {error}"
    if change.low is None:
        return None, None, f"no interval: {change.reason}"
    return 1 + change.low, 1 + change.high, ""


def _recorded_interval(a: MeasuredCell, b: MeasuredCell) -> tuple[float | None, float | None, str]:
    """The interval that the run itself recorded against BF16, where a is that BF16."""
    ends = [b.number(f"perplexity_change_{end}_pct").median for end in ("low", "high")]
    is_baseline = a.run is b.run and (a.weights, a.precision["activations"]) == ("bf16", "bf16")
    if not is_baseline or None in ends:
        return None, None, "no interval: the samples with each token's NLL are not beside the records"
    return 1 + ends[0] / 100, 1 + ends[1] / 100, ""


def _token_nll(cell: MeasuredCell) -> Path | None:
    name = (cell.records[0].get("samples") or {}).get("token_nll") if cell.records else None
    path = cell.run.path / name if name else None
    return path if path is not None and path.is_file() else None
