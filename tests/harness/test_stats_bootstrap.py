"""The bootstrap interval on a ratio of medians: the exact bootstrap distribution, coverage, nulls."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import StatsError, bootstrap_ratio

FAST, SLOW = [100.0, 101, 102, 103, 104], [50.0, 50.5, 51, 51.5, 52]


def test_ratio_is_b_over_a_and_lies_in_its_interval():
    result = bootstrap_ratio(SLOW, FAST, seed=1)
    assert result.ratio == 2.0
    assert result.low < 2.0 < result.high
    assert (result.num_a, result.num_b, result.confidence, result.reason) == (5, 5, 0.95, None)
    assert "percentile bootstrap" in result.method


def test_one_seed_gives_one_interval():
    assert bootstrap_ratio(SLOW, FAST, seed=7) == bootstrap_ratio(SLOW, FAST, seed=7)


def test_constant_baseline_gives_quantiles_of_the_exact_bootstrap_distribution():
    # The median of 5 draws is at most the i-th smallest value when 3 or more draws are: a binomial tail.
    values = np.array([1.0, 2, 3, 4, 5])
    cdf = stats.binom.sf(2, 5, np.arange(1, 6) / 5)
    for confidence in (0.5, 0.8, 0.95):
        result = bootstrap_ratio(np.ones(5), values, confidence=confidence, seed=0)
        exact = [values[np.searchsorted(cdf, q)] for q in ((1 - confidence) / 2, (1 + confidence) / 2)]
        assert [result.low, result.high] == exact


def test_higher_confidence_is_wider():
    narrow, wide = (bootstrap_ratio(SLOW, FAST, confidence=c, seed=2) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_sides_may_differ_in_length():
    assert bootstrap_ratio(SLOW, FAST * 3, seed=3).num_b == 15


@pytest.mark.parametrize("num_repeats", [pytest.param(5, id="fewest"), pytest.param(10, id="typical")])
def test_coverage(num_repeats):
    rng = np.random.default_rng(8)
    covered = 0
    for trial in range(1000):
        a, b = np.exp(0.02 * rng.standard_normal((2, num_repeats)))
        result = bootstrap_ratio(a, 1.5 * b, seed=trial, num_resamples=499)
        covered += result.low <= 1.5 <= result.high
    # The module states .95 to .97; 1000 trials add a standard error of .007, here three either side.
    assert 0.93 <= covered / 1000 <= 0.99


@pytest.mark.parametrize(
    ("a", "b", "ratio", "reason"),
    [
        pytest.param(FAST[:4], FAST, 102 / 101.5, "at least 5 repeats a side (got 4 and 5)", id="few-repeats"),
        pytest.param([], FAST, None, "a has no repeats", id="empty-baseline"),
        pytest.param(FAST, [], None, "b has no repeats", id="empty-candidate"),
        pytest.param([0.0] * 5, FAST, None, "positive values (a has 0)", id="zero-bytes-of-scales"),
        pytest.param(FAST, [-1.0] * 5, None, "positive values (b has -1)", id="negative-change"),
    ],
)
def test_null_with_reason(a, b, ratio, reason):
    result = bootstrap_ratio(a, b, seed=0)
    assert result.ratio == (None if ratio is None else pytest.approx(ratio))
    assert (result.low, result.high) == (None, None)
    assert reason in result.reason


def test_nan_is_refused():
    with pytest.raises(StatsError, match=r"b\[0\]: must be finite"):
        bootstrap_ratio(FAST, [math.nan] * 5, seed=0)
