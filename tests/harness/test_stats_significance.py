"""Mann-Whitney, signed-rank and Holm against values known from tables and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import StatsError
from harness.stats.significance import holm, mann_whitney, signed_rank

LOW, HIGH = [1.0, 2, 3, 4, 5], [6.0, 7, 8, 9, 10]


def test_separated_fives_reach_the_smallest_p_there_is():
    assert mann_whitney(LOW, HIGH).p == pytest.approx(2 / math.comb(10, 5))  # .0079


@pytest.mark.parametrize(("n", "m"), [(2, 3), (5, 5), (7, 12), (30, 30)])
def test_exact_distribution_is_scipys(n, m):
    rng = np.random.default_rng(n)
    for _ in range(5):
        a, b = rng.standard_normal(n), rng.standard_normal(m) + 0.5
        assert mann_whitney(a, b).p == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [5, 9, 18, 30])
def test_exact_signed_rank_is_scipys(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        a, b = np.exp(rng.standard_normal(n)), np.exp(rng.standard_normal(n) + 0.3)
        expected = stats.wilcoxon(np.log(b / a), method="exact").pvalue
        assert signed_rank(a, b).p == pytest.approx(expected, rel=1e-9)


def test_ties_take_the_normal_approximation():
    a, b = [1.0, 2, 2, 3], [2.0, 3, 4, 5]
    assert mann_whitney(a, b).p == pytest.approx(stats.mannwhitneyu(a, b, method="asymptotic").pvalue)
    rng = np.random.default_rng(0)
    for _ in range(50):  # only the order counts, so that is what is remembered
        a, b = rng.integers(0, 6, 7) * 0.7 + 100, rng.integers(1, 7, 5) * 0.7 + 100
        assert mann_whitney(a, b).p == pytest.approx(stats.mannwhitneyu(a, b, method="asymptotic").pvalue, rel=1e-12)


def test_signed_rank_of_ten_pairs_in_one_direction():
    a = np.arange(1.0, 11)
    assert signed_rank(a, a * np.linspace(1.1, 1.2, 10)).p == pytest.approx(2 / 2**10)


@pytest.mark.parametrize("test", [mann_whitney, signed_rank])
def test_equal_sides_are_not_different(test):
    assert test([3.0] * 6, [3.0] * 6).p == 1.0


@pytest.mark.parametrize("test", [mann_whitney, signed_rank])
def test_one_repeat_gives_no_p_and_says_why(test):
    found = test([1.0], [2.0])
    assert found.p is None and "at least 2" in found.reason


def test_signed_rank_refuses_sides_of_unequal_length():
    with pytest.raises(StatsError, match="pair repeats first"):
        signed_rank([1.0, 2], [1.0])


def test_signed_rank_of_values_that_have_no_ratio():
    assert "positive" in signed_rank([0.0, 1], [1.0, 1]).reason


def test_nan_is_refused():
    with pytest.raises(StatsError, match="must be finite"):
        mann_whitney([math.nan, 1], [1.0, 2])


def test_holm_by_hand():
    # sorted .01 .02 .04: 3 x .01 = .03, 2 x .02 = .04, 1 x .04 = .04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


def test_holm_leaves_out_what_has_no_p_and_never_exceeds_one():
    assert holm([None, 0.6, 0.9]) == [None, 1.0, 1.0]


def test_seven_metrics_at_five_against_five_can_never_be_significant():
    smallest = mann_whitney(LOW, HIGH).p
    assert min(holm([smallest] * 7)) > 0.05 and min(holm([smallest] * 3)) < 0.05


def test_false_positive_rate_of_mann_whitney_is_its_level():
    rng = np.random.default_rng(3)
    hits = sum(mann_whitney(*rng.standard_normal((2, 8))).p <= 0.05 for _ in range(800))
    # exact level of U at 8 against 8: the largest attainable p below .05
    p_values = np.array([stats.mannwhitneyu(*rng.standard_normal((2, 8))).pvalue for _ in range(300)])
    level = p_values[p_values <= 0.05].max()
    assert hits / 800 <= level + 3 * math.sqrt(level / 800)
