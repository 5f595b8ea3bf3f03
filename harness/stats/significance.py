"""Whether two sets of repeats differ at all: Mann-Whitney U, the signed-rank test for pairs, Holm's correction.

In: one value a repeat for each side. Out: a two-sided p, or None with the reason. Neither test says how large the
difference is, or that there is none: that is the interval's (`bootstrap`).

The smallest two-sided p of Mann-Whitney is 2 / C(2n, n): .0079 at 5 against 5; of the signed-rank test 2 / 2^n: .0625 at
5 pairs, .0020 at 10. So a test over few repeats cannot be significant after a correction for many metrics.
Sources: Mann and Whitney 1947; Wilcoxon 1945; Holm 1979. Ties take scipy's normal approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.errors import StatsError
from harness.stats.summary import finite_vector

MIN_VALUES = 2
MAX_EXACT = 30


class Significance(NamedTuple):
    """A two-sided p, or None with the reason; `test` names what was computed."""

    p: float | None
    test: str
    reason: str | None = None


def mann_whitney(a: ArrayLike, b: ArrayLike) -> Significance:
    """Do values of one side tend to be larger? Exact without ties up to 30 on a side."""
    x, y = finite_vector(a, "a"), finite_vector(b, "b")
    test = f"Mann-Whitney U, {x.size} against {y.size}"
    if min(x.size, y.size) < MIN_VALUES:
        return Significance(None, test, f"a test needs at least {MIN_VALUES} repeats a side (got {x.size} and {y.size})")
    pooled = np.sort(np.concatenate([x, y]))
    if pooled[0] == pooled[-1]:
        return Significance(1.0, test)
    if max(x.size, y.size) > MAX_EXACT or np.any(pooled[1:] == pooled[:-1]):
        _, places = np.unique(np.concatenate([x, y]), return_inverse=True)
        order = (tuple(np.sort(side).tolist()) for side in (places[: x.size], places[x.size :]))
        return Significance(_normal_p(*order), test)
    u = int(np.searchsorted(pooled, x).sum()) - x.size * (x.size - 1) // 2
    return Significance(_exact_p(min(u, x.size * y.size - u), x.size, y.size), test)


@lru_cache(maxsize=4096)
def _normal_p(x: tuple[int, ...], y: tuple[int, ...]) -> float:
    """By the places of the values among all: nothing else enters, and repeats of thousands of cells have few orders."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(x, y, method="asymptotic").pvalue)


def _exact_p(u: int, num_x: int, num_y: int) -> float:
    """Two-sided p of the smaller U: twice the share of orderings with a U as small."""
    counts = _orderings(num_x, num_y)
    return min(1.0, 2 * sum(counts[: u + 1]) / sum(counts))


@lru_cache(maxsize=256)
def _orderings(num_x: int, num_y: int) -> tuple[int, ...]:
    """Number of orderings of x and y by U: the coefficients of the Gaussian binomial (Mann and Whitney's recursion)."""
    counts = [1] + [0] * (num_x * num_y)
    for i in range(1, num_x + 1):
        for u in range(num_x * num_y, num_y + i - 1, -1):  # times 1 - q^(num_y + i)
            counts[u] -= counts[u - num_y - i]
        for u in range(i, num_x * num_y + 1):  # divided by 1 - q^i
            counts[u] += counts[u - i]
    return tuple(counts)


def signed_rank(a: ArrayLike, b: ArrayLike) -> Significance:
    """Do pairs (a[i], b[i]) differ in one direction? On log ratios, so values must be positive.

    Exact without ties up to 30 pairs.
    """
    x, y = finite_vector(a, "a"), finite_vector(b, "b")
    if x.size != y.size:
        raise StatsError(f"b: must have a value for each of a's (got {y.size} and {x.size}); pair repeats first")
    test = f"Wilcoxon signed-rank, {x.size} pairs"
    if x.size < MIN_VALUES:
        return Significance(None, test, f"a test needs at least {MIN_VALUES} pairs (got {x.size})")
    if min(x.min(), y.min()) <= 0:
        return Significance(None, test, "a ratio needs positive values")
    logs = np.log(y / x)
    if not logs.any():
        return Significance(1.0, test)
    sizes = np.sort(np.abs(logs))
    if logs.size > MAX_EXACT or sizes[0] == 0 or np.any(sizes[1:] == sizes[:-1]):
        from scipy.stats import wilcoxon

        return Significance(float(wilcoxon(logs).pvalue), test)
    positive = int((np.searchsorted(sizes, np.abs(logs[logs > 0])) + 1).sum())
    counts = _rank_sums(logs.size)
    smaller = min(positive, logs.size * (logs.size + 1) // 2 - positive)
    return Significance(min(1.0, 2 * sum(counts[: smaller + 1]) / 2**logs.size), test)


@lru_cache(maxsize=64)
def _rank_sums(size: int) -> tuple[int, ...]:
    """Number of sets of the ranks 1 to size by their sum: the coefficients of the product of (1 + q^rank)."""
    counts = [1] + [0] * (size * (size + 1) // 2)
    for rank in range(1, size + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    return tuple(counts)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Each p corrected for all that are given (None stays None and does not count), in the order given.

    adjusted of the k-th smallest of m = max over j <= k of (m - j + 1) * p_(j), at most 1.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = min(1.0, max(largest, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted
