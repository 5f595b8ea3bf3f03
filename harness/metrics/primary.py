"""Which metrics can be judged over repeats, and which a repeat gives again to the last digit.

In: a metric's name. Out: yes or no, or a reason in words.
"""

from harness.metrics import METRICS
from harness.metrics.memory import MEMORY
from harness.metrics.quality import QUALITY

EXACT = frozenset(metric.name for metric in QUALITY + MEMORY) - {"process_peak_rss_bytes"}
"""Figures that a repeat on the same machine gives again to the last digit."""


def is_exact(name: str) -> bool:
    """Whether repeats of a metric are equal by nature, so that a test over repeats says nothing."""
    return name in EXACT


def primary_problem(name: str) -> str | None:
    """Why a metric cannot be judged over repeats; None when it can."""
    if name not in METRICS:
        return "no metric of that name; see harness/metrics or the Definitions of a report"
    if METRICS[name].direction == "none":
        return "has no better and worse, so it cannot be judged"
    if is_exact(name):
        return "is the same in every repeat; gate it under `exact`, without repeats"
    return None
