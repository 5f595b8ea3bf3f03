"""A metric's value as it stands in a record: number, unit, n, and the reason where there is no number.

`measured("output_throughput", 31.2, n=8)` takes the unit from `harness.metrics`; `missing(name, reason)` is the only
way to write a null, so that a null always says why.
"""

from harness.metrics import METRICS


def measured(name: str, value: float, n: int) -> dict:
    """A number with its unit and the count of what it was computed from."""
    return {"value": value, "unit": METRICS[name].unit, "n": n, "reason": None}


def missing(name: str, reason: str, n: int = 0) -> dict:
    """Not measured, and why; never 0."""
    return {"value": None, "unit": METRICS[name].unit, "n": n, "reason": reason}
