"""How much perplexity changed between two runs scored on the same tokens, with its interval.

In: NLL (nats) of each token under run a (the baseline) and run b, and the window each token was scored in.
Out: change = exp(mean(nll_b - nll_a)) - 1, that is perplexity_b / perplexity_a - 1, with its interval.

The difference d is taken token by token, which removes how hard the text is. Tokens of one window share a
context, so their d are correlated and a per-token standard error is too small: the unit is the window, W of
them over N tokens.

    u_w = sum of (d - mean d) over window w
    standard error = sqrt(W / (W - 1) * sum of u_w^2) / N          (cluster-robust, finite-cluster factor)
    interval = exp(mean d -+ t * standard error) - 1              (t: Student, W - 1 degrees of freedom)

Windows are taken as independent and may differ in length. Source: Liang and Zeger 1986; Miller, "Adding
Error Bars to Evals", 2024. The interval covers the choice of text, not the choice of calibration or of
seed. As only sums over a window enter, the order of tokens in a window does not matter.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from harness.stats.bits import MAX_MEAN_NLL_NATS
from harness.stats.errors import StatsError
from harness.stats.summary import finite_vector

MIN_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class PerplexityChange:
    """Relative change (0.01 is +1 %) with its interval; None with `reason` where it cannot be given."""

    change: float | None
    low: float | None
    high: float | None
    mean_difference_nats: float | None
    standard_error_nats: float | None
    confidence: float
    num_tokens: int
    num_windows: int
    reason: str | None = None


def perplexity_change(
    nll_a: ArrayLike,
    nll_b: ArrayLike,
    window: ArrayLike,
    *,
    window_b: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PerplexityChange:
    """Change of perplexity from a to b, paired by token, clustered by window.

    nll_a, nll_b: [N] nats. window: [N] integer ids; `window_b`, the ids that run b recorded, must equal them.
    With one window the change is given and its interval is None; without tokens all is None.
    StatsError on unequal lengths, different windows, NaN or infinity, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    difference = _paired_difference(nll_a, nll_b)
    ids = _window_ids(window, window_b, difference.size)
    if difference.size == 0:
        return PerplexityChange(None, None, None, None, None, confidence, 0, 0, "no scored tokens")
    unique, cluster = np.unique(ids, return_inverse=True)
    num_tokens, num_windows = difference.size, unique.size
    mean = float(difference.mean())
    change = _relative(mean)
    if num_windows < MIN_WINDOWS:
        reason = f"an interval needs at least {MIN_WINDOWS} windows (got {num_windows})"
        return PerplexityChange(change, None, None, mean, None, confidence, num_tokens, num_windows, reason)
    window_sums = np.bincount(cluster, weights=difference - mean)
    error = math.sqrt(num_windows / (num_windows - 1) * float(window_sums @ window_sums)) / num_tokens
    reach = float(stdtrit(num_windows - 1, (1 + confidence) / 2)) * error
    low, high = _relative(mean - reach), _relative(mean + reach)
    return PerplexityChange(change, low, high, mean, error, confidence, num_tokens, num_windows)


def check_confidence(confidence: float) -> None:
    """StatsError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise StatsError(f"confidence: must lie between 0 and 1 (got {confidence}); 95 % is 0.95")


def _relative(nats: float) -> float:
    if nats > MAX_MEAN_NLL_NATS:
        raise StatsError(f"nll_b - nll_a: the change overflows at {nats:.1f} nats; check the NLL of both runs")
    return math.expm1(nats)


def _paired_difference(nll_a: ArrayLike, nll_b: ArrayLike) -> NDArray[np.float64]:
    a, b = finite_vector(nll_a, "nll_a"), finite_vector(nll_b, "nll_b")
    if a.size != b.size:
        raise StatsError(
            f"nll_b: must score the same tokens as nll_a (got {b.size} and {a.size} tokens); "
            "score both runs on one held-out text with one window length"
        )
    return b - a


def _window_ids(window: ArrayLike, window_b: ArrayLike | None, num_tokens: int) -> NDArray[np.integer]:
    ids = np.asarray(window)
    if ids.shape != (num_tokens,):
        raise StatsError(f"window: must hold one id a token (got shape {ids.shape} for {num_tokens} tokens)")
    if num_tokens and not np.issubdtype(ids.dtype, np.integer):
        raise StatsError(f"window: must hold integer ids (got {ids.dtype})")
    if window_b is None:
        return ids
    other = np.asarray(window_b)
    if other.shape != ids.shape or not np.array_equal(other, ids):
        where = "their number" if other.shape != ids.shape else f"token {int(np.argmax(other != ids))}"
        raise StatsError(
            f"window_b: must equal window (they differ in {where}); "
            "score both runs with the same window length and keep the order of their tokens"
        )
    return ids
