"""The ratio of interleaved pairs: coverage, drift that a ratio of medians falls for, nulls."""

import math

import numpy as np
import pytest

from harness.stats import StatsError, bootstrap_ratio
from harness.stats.pairs import expanded_tail, paired_ratio, pseudo_median


def test_constant_ratio_is_found_whatever_the_load_does():
    load = np.array([1.0, 1.0, 3.0, 3.0, 1.0, 2.0, 1.0])
    found = paired_ratio(load, 1.1 * load, seed=0)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_load_that_changes_midway_fools_the_ratio_of_medians_and_not_the_pairs():
    # Eleven pairs of equal sides; the load triples between the two halves of pair 6.
    a = np.array([1.0] * 6 + [3.0] * 5)
    b = np.array([1.0] * 5 + [3.0] * 6)
    assert bootstrap_ratio(a, b, seed=0).ratio == 3.0
    assert paired_ratio(a, b, seed=0).ratio == 1.0


def test_pseudo_median_by_hand():
    # means of all pairs of 0, 1, 5 with themselves: 0 .5 1 2.5 3 5 -> (1 + 2.5) / 2
    assert pseudo_median(np.array([0.0, 1, 5])) == 1.75


@pytest.mark.parametrize(
    ("num_pairs", "trials"),
    [pytest.param(5, 600, id="fewest"), pytest.param(10, 600, id="one-start"), pytest.param(30, 120, id="most")],
)
def test_coverage_under_heavy_tails(num_pairs, trials):
    rng, covered = np.random.default_rng(num_pairs), 0
    for _ in range(trials):
        load = np.exp(0.3 * rng.standard_normal(num_pairs))
        noise = np.exp(0.12 * rng.standard_t(3, num_pairs) / math.sqrt(3))
        found = paired_ratio(load, 1.1 * load * noise, seed=0, num_resamples=399)
        covered += found.low <= 1.1 <= found.high
    # The module states .93 to .96, a binomial standard error is sqrt(.95 * .05 / trials); three either side.
    spare = 3 * math.sqrt(0.95 * 0.05 / trials)
    assert 0.93 - spare <= covered / trials <= min(0.97 + spare, 1.0)


def test_few_pairs_are_given_wider_tails():
    assert expanded_tail(0.95, 5) < 0.002 < expanded_tail(0.95, 30) < 0.025


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        pytest.param([1.0] * 4, [2.0] * 4, "at least 5 pairs", id="few-pairs"),
        pytest.param([], [], "no pairs", id="none"),
        pytest.param([0.0] * 5, [1.0] * 5, "positive", id="zero"),
    ],
)
def test_null_with_reason(a, b, reason):
    found = paired_ratio(a, b, seed=0)
    assert found.low is None and reason in found.reason


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(StatsError, match="pair repeats first"):
        paired_ratio([1.0, 2], [1.0], seed=0)
