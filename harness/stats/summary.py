"""Mean, median, percentiles of raw samples, each with its n, or null with the reason.

In: one-dimensional values, all finite. Out: `Statistic(value, n, reason)` by name; value is None exactly
when reason is not. Percentiles are linear (numpy's default, Hyndman and Fan type 7); std is the sample's,
over n - 1. A percentile is given only from the n that can have seen it: one sample in ten lies above p90, one
in a hundred above p99; p99.9 asks for ten such samples. Requests of one run are not independent, so nothing
here gives an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.errors import StatsError

MIN_SAMPLES: dict[float, int] = {50: 1, 90: 10, 95: 20, 99: 100, 99.9: 10_000}
DEFAULT_PERCENTILES = (50, 90, 95, 99)


class Statistic(NamedTuple):
    """One figure: its value or None, the number of samples, and why it is None."""

    value: float | None
    n: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The statistics of one set of samples, in the unit of the samples; None where n is too small."""

    mean: float | None
    median: float | None
    std: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    n: int

    @classmethod
    def of(cls, values: ArrayLike) -> Summary:
        """Summary of `values`; `summarize` gives the reasons too."""
        statistics = summarize(values)
        return cls(**{name: s.value for name, s in statistics.items()}, n=statistics["mean"].n)


@dataclass(frozen=True, slots=True)
class Spread:
    """Where repeats lie: `relative_spread` is (max - min) / |median|, None with `reason` where undefined."""

    median: float | None
    min: float | None
    max: float | None
    relative_spread: float | None
    n: int
    reason: str | None = None


def finite_vector(values: ArrayLike, name: str = "values") -> NDArray[np.float64]:
    """`values` as a float64 vector; StatsError on NaN, infinity or more than one dimension."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise StatsError(f"{name}: must have one dimension (got shape {vector.shape}); flatten it first")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise StatsError(
            f"{name}[{bad[0]}]: must be finite (got {vector[bad[0]]}; {bad.size} of {vector.size} are not); "
            "leave out what was not measured instead of passing NaN"
        )
    return vector


def summarize(values: ArrayLike, *, percentiles: Sequence[float] = DEFAULT_PERCENTILES) -> dict[str, Statistic]:
    """Statistics by name: mean, median, std, then one `pNN` a percentile (`p99.9` when asked for)."""
    unknown = [p for p in percentiles if p not in MIN_SAMPLES]
    if unknown:
        raise StatsError(f"percentiles: must be among {list(MIN_SAMPLES)} (got {unknown[0]}); add it to MIN_SAMPLES")
    x = finite_vector(values)
    n = x.size
    names = ["mean", "median", "std", *(f"p{p:g}" for p in percentiles)]
    if n == 0:
        return dict.fromkeys(names, Statistic(None, 0, "no samples"))
    std = Statistic(float(x.std(ddof=1)), n) if n > 1 else Statistic(None, n, "std needs n >= 2 (n = 1)")
    basic = [Statistic(float(x.mean()), n), Statistic(float(np.median(x)), n), std]
    return dict(zip(names, basic + [_percentile(x, p) for p in percentiles], strict=True))


def spread(values: ArrayLike) -> Spread:
    """Median, extremes and relative spread of one value a repeat."""
    x = finite_vector(values)
    if x.size == 0:
        return Spread(None, None, None, None, 0, "no repeats")
    median, low, high = float(np.median(x)), float(x.min()), float(x.max())
    if x.size == 1:
        return Spread(median, low, high, None, 1, "spread needs n >= 2 (n = 1)")
    if median == 0:
        return Spread(median, low, high, None, x.size, "the median is 0, so a relative spread has no meaning")
    return Spread(median, low, high, (high - low) / abs(median), x.size)


def _percentile(x: NDArray[np.float64], percentile: float) -> Statistic:
    needed = MIN_SAMPLES[percentile]
    if x.size < needed:
        return Statistic(None, x.size, f"p{percentile:g} needs n >= {needed} (n = {x.size})")
    return Statistic(float(np.percentile(x, percentile)), x.size)
