"""Whether a series drifts: a rank test for a trend, and how much it changed from its beginning to its end.

In: values in order of time. Out: `Trend`. The test is Kendall's tau against time (Mann and Kendall), which asks for no
distribution; the size is Theil and Sen's slope, the median of the slopes between pairs, times the length. Long series are
reduced to medians of equal stretches first, so that the pairs stay few; short ones are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_VALUES = 24
MAX_POINTS = 120


@dataclass(frozen=True, slots=True)
class Trend:
    """`change` is (end - begin) / median of the fitted line, negative when values fall; `p` two-sided; n values."""

    change: float
    p: float
    n: int


def trend(values: Sequence[float]) -> Trend | None:
    """None for fewer than MIN_VALUES, or where the median is not positive."""
    from scipy.stats import kendalltau, theilslopes

    x = np.asarray(values, dtype=np.float64)
    if x.size < MIN_VALUES or np.median(x) <= 0:
        return None
    points = x if x.size <= MAX_POINTS else np.array([np.median(part) for part in np.array_split(x, MAX_POINTS)])
    times = np.arange(points.size)
    tau = kendalltau(times, points)
    slope = theilslopes(points, times)[0]
    p = 1.0 if np.isnan(tau.pvalue) else float(tau.pvalue)
    return Trend(float(slope * (points.size - 1) / np.median(points)), p, int(x.size))
