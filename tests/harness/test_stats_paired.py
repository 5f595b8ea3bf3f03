"""The paired interval on perplexity change: hand example, coverage by simulation, refusals."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import StatsError, perplexity_change

NUM_DATA_SETS = 2000
TRUE_CHANGE_NATS = 0.02


def test_hand_example():
    # d = 1 2 | 4 5: mean 3, window sums of (d - mean) -3 and 3, error sqrt(2 / 1 * 18) / 4 = 1.5.
    d = np.array([1.0, 2.0, 4.0, 5.0]) / 100
    result = perplexity_change(np.full(4, 2.0), 2.0 + d, [0, 0, 7, 7])
    reach = stats.t.ppf(0.975, df=1) * 0.015
    assert result.mean_difference_nats == pytest.approx(0.03)
    assert result.standard_error_nats == pytest.approx(0.015)
    assert result.change == pytest.approx(math.exp(0.03) - 1)
    assert (result.low, result.high) == pytest.approx((math.exp(0.03 - reach) - 1, math.exp(0.03 + reach) - 1))
    assert (result.num_tokens, result.num_windows, result.confidence, result.reason) == (4, 2, 0.95, None)


def test_windows_of_one_token_give_the_one_sample_t_interval():
    rng = np.random.default_rng(3)
    a, d = rng.exponential(size=30), rng.normal(0.01, 0.1, size=30)
    result = perplexity_change(a, a + d, np.arange(30), confidence=0.9)
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx((math.exp(low) - 1, math.exp(high) - 1))


def test_order_of_tokens_does_not_matter():
    rng = np.random.default_rng(4)
    a, b, window = rng.exponential(size=60), rng.exponential(size=60), np.repeat(np.arange(6), 10)
    order = rng.permutation(60)
    shuffled = perplexity_change(a[order], b[order], window[order])
    straight = perplexity_change(a, b, window)
    assert (shuffled.low, shuffled.high) == pytest.approx((straight.low, straight.high))


def test_swapping_the_runs_inverts_the_ratio():
    rng = np.random.default_rng(5)
    a, b, window = rng.exponential(size=60), rng.exponential(size=60), np.repeat(np.arange(6), 10)
    forth, back = perplexity_change(a, b, window), perplexity_change(b, a, window)
    assert (1 + forth.change) * (1 + back.change) == pytest.approx(1)
    assert (1 + forth.low) * (1 + back.high) == pytest.approx(1)


def test_a_run_against_itself_is_exactly_zero():
    nll = np.random.default_rng(6).exponential(size=20)
    result = perplexity_change(nll, nll, np.repeat([0, 1], 10))
    assert (result.change, result.low, result.high) == (0, 0, 0)


def _windows(num_windows: int, equal: int | None, rng: np.random.Generator) -> np.ndarray:
    lengths = np.full(num_windows, equal) if equal else rng.integers(16, 65, size=num_windows)
    return np.repeat(np.arange(num_windows), lengths)


@pytest.mark.parametrize(
    ("num_windows", "equal"),
    [
        pytest.param(40, 64, id="many-equal-windows"),
        pytest.param(8, 64, id="few-windows-need-student-t"),
        pytest.param(40, None, id="windows-of-unequal-length"),
    ],
)
def test_coverage_under_correlation_within_windows(num_windows, equal):
    """A shared part a window (variance .01 of .10, so correlation .1) beside noise a token."""
    rng = np.random.default_rng(20)
    clustered = naive = 0
    for _ in range(NUM_DATA_SETS):
        window = _windows(num_windows, equal, rng)
        a = rng.exponential(2.0, size=window.size)
        shared = rng.normal(0, 0.1, size=num_windows)[window]
        d = TRUE_CHANGE_NATS + shared + rng.normal(0, 0.3, size=window.size)
        result = perplexity_change(a, a + d, window)
        clustered += result.low <= math.expm1(TRUE_CHANGE_NATS) <= result.high
        naive_reach = 1.96 * d.std(ddof=1) / math.sqrt(d.size)
        naive += abs(d.mean() - TRUE_CHANGE_NATS) <= naive_reach
    # 2000 data sets give coverage .95 a standard error of .005: [.93, .97] is four of them either side.
    assert 0.93 <= clustered / NUM_DATA_SETS <= 0.97
    # With 40 tokens a window or more on average, the true error is at least sqrt(1 + 39 * .1) = 2.2 naive
    # ones, so the naive interval covers 2 Phi(1.96 / 2.2) - 1 = .63 at most.
    assert naive / NUM_DATA_SETS < 0.65


def test_one_window_gives_the_change_without_interval():
    result = perplexity_change([1.0, 1.0], [1.1, 1.1], [3, 3])
    assert result.change == pytest.approx(math.expm1(0.1))
    assert (result.low, result.high, result.standard_error_nats) == (None, None, None)
    assert result.reason == "an interval needs at least 2 windows (got 1)"


def test_no_tokens_give_null_with_reason():
    result = perplexity_change([], [], [])
    assert (result.change, result.low, result.high, result.reason) == (None, None, None, "no scored tokens")


@pytest.mark.parametrize(
    ("a", "b", "window", "options", "message"),
    [
        pytest.param([1, 2], [1], [0, 1], {}, r"nll_b: .*got 1 and 2", id="unequal-lengths"),
        pytest.param([1, 2], [1, 2], [0], {}, r"window: .*\(1,\) for 2", id="a-window-missing"),
        pytest.param([1, 2], [1, 2], [0.0, 1.0], {}, "integer ids", id="window-not-an-id"),
        pytest.param([1, 2], [1, 2], [0, 1], {"window_b": [0, 0]}, "differ in token 1", id="other-windows"),
        pytest.param([1, 2], [1, 2], [0, 1], {"window_b": [0]}, "differ in their number", id="fewer-windows"),
        pytest.param([1, math.nan], [1, 2], [0, 1], {}, r"nll_a\[1\]", id="nan"),
        pytest.param([1, 1], [1, 2000], [0, 1], {}, "overflows", id="overflow"),
        pytest.param([1, 2], [1, 2], [0, 1], {"confidence": 95}, "95 % is 0.95", id="percent-for-share"),
    ],
)
def test_refusals(a, b, window, options, message):
    with pytest.raises(StatsError, match=message):
        perplexity_change(a, b, window, **options)


def test_same_windows_are_accepted():
    assert perplexity_change([1, 2], [1, 3], [0, 1], window_b=np.array([0, 1])).reason is None
