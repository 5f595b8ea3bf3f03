"""A histogram of slots that sums to a given total, in given shares, with at most so many slots an expert.

In: shares of the experts, total, cap. Out: whole numbers. Largest remainders (Hamilton's method); an expert's slots are
capped at the number of tokens, for a token takes an expert at most once. Draws nothing.

Shapes: E experts.
"""

import numpy as np


def apportion(shares_E: np.ndarray, total: int, cap: int) -> np.ndarray:
    """int64 [E] that sums to `total`, each at most `cap`; ties go to the lower expert. ValueError where E * cap < total."""
    shares_E = np.asarray(shares_E, dtype=np.float64)
    if len(shares_E) * cap < total:
        raise ValueError(f"{len(shares_E)} experts of at most {cap} slots cannot take {total}")
    counts_E = np.zeros(len(shares_E), dtype=np.int64)
    open_E = np.ones(len(shares_E), dtype=bool)
    while open_E.any():
        left = total - int(counts_E[~open_E].sum())
        weight_E = np.where(open_E, shares_E, 0.0)
        if weight_E.sum() == 0:  # only experts with share 0 are left: evenly
            weight_E = open_E.astype(np.float64)
        quota_E = left * weight_E / weight_E.sum()
        over_E = open_E & (quota_E > cap)
        if not over_E.any():
            return _rounded(quota_E, counts_E, open_E, left, cap)
        counts_E[over_E], open_E = cap, open_E & ~over_E
    return counts_E  # all at their cap: total was E * cap


def _rounded(quota_E: np.ndarray, counts_E: np.ndarray, open_E: np.ndarray, left: int, cap: int) -> np.ndarray:
    """Whole parts, then one more for each of the largest remainders."""
    counts_E = np.where(open_E, np.floor(quota_E).astype(np.int64), counts_E)
    remainder_E = np.where(open_E & (counts_E < cap), quota_E - np.floor(quota_E), -1.0)
    missing = left - int(counts_E[open_E].sum())
    counts_E[np.argsort(-remainder_E, kind="stable")[:missing]] += 1
    return counts_E
