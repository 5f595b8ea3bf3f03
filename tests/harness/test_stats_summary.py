"""Summaries of samples: exact values on hand examples, and null with a reason where n is too small."""

import math

import numpy as np
import pytest

from harness.stats import Spread, StatsError, Summary, spread, summarize

NAMES = ["mean", "median", "std", "p50", "p90", "p95", "p99"]


def test_every_figure_of_one_to_a_hundred():
    values = {name: s.value for name, s in summarize(range(1, 101)).items()}
    # Linear percentile q of 1..100 is 1 + 0.99 q; the sample variance of 1..n is n (n + 1) / 12.
    expected = dict(mean=50.5, median=50.5, p50=50.5, p90=90.1, p95=95.05, p99=99.01, std=math.sqrt(100 * 101 / 12))
    assert values == pytest.approx(expected)


def test_names_and_their_order():
    assert list(summarize([1.0])) == NAMES
    assert list(summarize([1.0], percentiles=[99.9])) == ["mean", "median", "std", "p99.9"]


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        pytest.param("p90", 10, id="one-sample-above-p90"),
        pytest.param("p95", 20, id="one-sample-above-p95"),
        pytest.param("p99", 100, id="one-sample-above-p99"),
        pytest.param("p99.9", 10_000, id="ten-samples-above-p99.9"),
        pytest.param("std", 2, id="std-needs-two"),
    ],
)
def test_null_with_reason_one_sample_short(name, needed):
    percentiles = (90, 95, 99, 99.9)
    value, n, reason = summarize(np.arange(needed - 1), percentiles=percentiles)[name]
    assert (value, n, reason) == (None, needed - 1, f"{name} needs n >= {needed} (n = {needed - 1})")
    value, n, reason = summarize(np.arange(needed), percentiles=percentiles)[name]
    assert value is not None and n == needed and reason is None


def test_no_samples_gives_null_for_all_with_reason():
    assert {tuple(s) for s in summarize([]).values()} == {(None, 0, "no samples")}


def test_one_sample_has_mean_and_median():
    statistics = summarize([7.0])
    assert [statistics[name].value for name in NAMES] == [7.0, 7.0, None, 7.0, None, None, None]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused_with_its_place(bad):
    with pytest.raises(StatsError, match=r"values\[1\]: must be finite .* 1 of 3"):
        summarize([1.0, bad, 2.0])


def test_more_than_one_dimension_is_refused():
    with pytest.raises(StatsError, match=r"one dimension \(got shape \(2, 2\)\)"):
        summarize([[1, 2], [3, 4]])


def test_percentile_without_a_least_n_is_refused():
    with pytest.raises(StatsError, match="got 42"):
        summarize([1.0], percentiles=[42])


def test_summary_carries_values_and_n():
    assert Summary.of([1.0, 3.0]) == Summary(2.0, 2.0, math.sqrt(2), 2.0, None, None, None, n=2)
    assert Summary.of([]) == Summary(*[None] * 7, n=0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([90, 100, 120], Spread(100, 90, 120, 0.3, 3), id="thirty-percent"),
        pytest.param([-90, -100, -120], Spread(-100, -120, -90, 0.3, 3), id="negative-median"),
        pytest.param([5, 5], Spread(5, 5, 5, 0.0, 2), id="no-spread"),
        pytest.param([5], Spread(5, 5, 5, None, 1, "spread needs n >= 2 (n = 1)"), id="one-repeat"),
        pytest.param([], Spread(None, None, None, None, 0, "no repeats"), id="none"),
    ],
)
def test_spread(values, expected):
    assert spread(values) == expected


def test_spread_around_zero_has_no_relative_value():
    result = spread([-1, 0, 1])
    assert result.relative_spread is None and "median is 0" in result.reason
