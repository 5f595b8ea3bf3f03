"""What another client's figures mean in this project's definitions, and which of them must not be set beside ours.

In: a ForeignResult. Out: metrics of a record. Means, medians and rates stay as the tool gave them. A standard deviation over n
becomes one over n - 1; a percentile from fewer samples than harness/stats/summary.py asks for is null, with the tool's figure
in the reason. What differs otherwise is said by metric, for compare to refuse.
"""

from math import sqrt

from harness.collect.values import measured, missing
from harness.exchange.distribution import min_samples
from harness.exchange.foreign import ForeignResult
from harness.metrics import METRICS

RATES = ("request_throughput", "output_throughput", "total_token_throughput")
NEAR_PCT = 1.0
"""Windows, or numbers of gaps, that differ by less give the same figure as far as a comparison resolves (compare/rules.py)."""


def metrics_of(result: ForeignResult) -> dict[str, dict]:
    """What the tool gave; the rest of the request metrics is null with the reason."""
    found = {name: _entry(name, value, result) for name, value in result.metrics.items()}
    wanted = [name for name, metric in METRICS.items() if metric.unit in ("ms", "tokens/s", "requests/s", "bytes")]
    return {name: found.get(name) or missing(name, _why_absent(name, result)) for name in wanted} | found


def _entry(name: str, value: float, result: ForeignResult) -> dict:
    statistic, _, rest = name.partition("_")
    family = rest.removesuffix("_ms")
    n = result.counts.get(family)
    at_least = result.num_completed if n is None else n
    if statistic == "std":
        return _sample_std(name, value, n, result.tool)
    needed = min_samples(float(statistic[1:])) if statistic[1:2].isdigit() else 1
    if at_least < needed:
        return missing(name, f"{statistic} needs n >= {needed} (n = {at_least}); {result.tool} gave {value:.6g} ms", at_least)
    return measured(name, value, at_least)


def _sample_std(name: str, value: float, n: int | None, tool: str) -> dict:
    if n is None:
        return missing(name, f"{tool} divides by n, which its file does not say for these samples; it gave {value:.6g} ms")
    if n < 2:
        return missing(name, f"std needs n >= 2 (n = {n})", n)
    return measured(name, value * sqrt(n / (n - 1)), n)


def _why_absent(name: str, result: ForeignResult) -> str:
    family = name.partition("_")[2].removesuffix("_ms")
    return result.absent.get(family) or f"not in {result.tool}'s file"


def not_comparable(result: ForeignResult) -> dict[str, str]:
    """Why a metric must not be judged against ours, by metric."""
    families = {family: reason for family, reason in result.differs.items() if family != "rates"}
    named = {name: families.get(name.partition("_")[2].removesuffix("_ms")) for name in METRICS if name.endswith("_ms")}
    rates = dict.fromkeys(RATES, result.differs.get("rates"))
    return {name: reason for name, reason in (named | rates).items() if reason}


def open_loop_differs(tool: str, arrival: dict) -> dict[str, str]:
    """Ours count from when a request was due, which only in a closed loop is when it is sent."""
    if arrival["kind"] == "closed":
        return {}
    reason = f"{tool} counts from when a request was sent, ours from when it was due; the two agree in a closed loop only"
    return {"ttft": reason, "e2el": reason}


def gaps_differ(tool: str, gaps: int | None, tokens: float, completed: int) -> dict[str, str]:
    """Ours has one gap fewer a request than tokens; a client that counts chunks has more with a closing one without text, and
    fewer where a chunk brings several tokens."""
    if gaps is None:
        return {"itl": f"{tool}'s file does not say how many gaps it pooled, so whether they are between tokens is not known"}
    wanted = round(tokens) - completed
    is_near = abs(gaps - wanted) <= NEAR_PCT / 100 * wanted
    return {} if is_near else {"itl": f"{tool} pooled {gaps} gaps between chunks where {wanted} are between tokens"}


def window_differs(tool: str, window_s: float, wall_s: float | None) -> dict[str, str]:
    """Ours divides by the time from the first submission to the last token."""
    if wall_s is None or abs(window_s / wall_s - 1) <= NEAR_PCT / 100:
        return {}
    return {"rates": f"{tool} divides by {window_s:.4g} s, and from the first request to the last token are {wall_s:.4g} s"}
