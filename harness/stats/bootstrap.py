"""Interval on the ratio of two medians over repeats: how much faster b is than a.

In: one positive value a repeat for each side. Out: median(b) / median(a) with a percentile bootstrap
interval: both sides are resampled with replacement, independently, `num_resamples` times; the interval is
the middle `confidence` of the ratios. The unit is the repeat, never the request. Nothing is assumed of the
distribution but that the repeats of a side are exchangeable, so interleave them.

Coverage of the 95 % interval by simulation, 2 % log-normal noise, equal n: 0.67 at n = 2, 0.90 at 3, 0.92
at 4, 0.97 at 5, 0.95 to 0.97 from 6 to 30. Hence no interval below 5 repeats a side. Repeats that were
interleaved with the other side's have a narrower interval: see `pairs`.

The draws depend on the numbers of repeats and the seed alone, so they are made once and kept: which values of a
sorted side the median of each resample falls on.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.paired import check_confidence
from harness.stats.summary import finite_vector

METHOD = "percentile bootstrap of the ratio of medians, sides resampled independently"
MIN_REPEATS = 5
NUM_RESAMPLES = 9_999


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """median(b) / median(a) and its interval; None with `reason` where it cannot be given."""

    ratio: float | None
    low: float | None
    high: float | None
    confidence: float
    num_a: int
    num_b: int
    num_resamples: int
    reason: str | None = None
    method: str = METHOD


def bootstrap_ratio(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, seed: int, num_resamples: int = NUM_RESAMPLES
) -> RatioInterval:
    """Ratio of medians, b over a (a is the baseline), with its interval; one seed gives one interval.

    Ratio and interval are None when a side is empty or has a value <= 0; the interval alone when a side has
    fewer than 5 repeats. StatsError on NaN, infinity, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    x, y = finite_vector(a, "a"), finite_vector(b, "b")
    ratio, low, high, reason = None, None, None, _no_ratio(x, y)
    if reason is None:
        ratio = float(np.median(y) / np.median(x))
        reason = _no_interval(x, y)
    if reason is None:
        of_y, of_x = _draws(y.size, x.size, num_resamples, seed)
        ratios = _medians(y, of_y) / _medians(x, of_x)
        low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return RatioInterval(ratio, low, high, confidence, x.size, y.size, num_resamples, reason)


@lru_cache(maxsize=64)
def _draws(num_y: int, num_x: int, count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each side [2, count]: the two middle ranks of each resample (the same twice for an odd number)."""
    rng = np.random.default_rng(seed)
    return tuple(_middle_ranks(rng.integers(size, size=(count, size))) for size in (num_y, num_x))


def _middle_ranks(drawn: NDArray[np.intp]) -> NDArray[np.intp]:
    size = drawn.shape[1]
    middles = ((size - 1) // 2, size // 2)
    return np.partition(drawn, middles, axis=1)[:, middles].T.copy()


def _medians(x: NDArray[np.float64], ranks: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.sort(x)[ranks].mean(axis=0)


def _no_ratio(x: NDArray[np.float64], y: NDArray[np.float64]) -> str | None:
    for name, side in (("a", x), ("b", y)):
        if side.size == 0:
            return f"{name} has no repeats"
        if side.min() <= 0:
            return f"a ratio needs positive values ({name} has {side.min():g})"
    return None


def _no_interval(x: NDArray[np.float64], y: NDArray[np.float64]) -> str | None:
    if min(x.size, y.size) < MIN_REPEATS:
        return f"an interval needs at least {MIN_REPEATS} repeats a side (got {x.size} and {y.size})"
    return None
