"""The trend test: silent on noise, right in sign and size on drifts that noise does not hide, null where n is small."""

import numpy as np

from harness.stats.trend import MIN_VALUES, trend


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.05, n)


def test_noise_alone_is_seldom_a_trend():
    # p is uniform without a trend: of 200 series about 2 lie below 0.01; 9 or more has probability 0.0002 (binomial).
    found = sum(trend(1.0 + noise(60, seed)).p < 0.01 for seed in range(200))
    assert found < 9


def test_drift_is_seen_with_its_sign_and_size():
    for slope in (-0.3, 0.3):
        found = trend(1.0 + slope * np.linspace(-0.5, 0.5, 100) + noise(100, 1))
        # Theil and Sen's slope has a standard error of about 0.05 * sqrt(12 / 100) = 0.017 over the whole length; 4 of them.
        assert found.p < 1e-6 and abs(found.change - slope) < 0.07


def test_long_series_are_reduced_and_not_cut():
    values = 1.0 + 0.2 * np.linspace(0, 1, 50_000) + noise(50_000, 2)
    found = trend(values)
    assert found.n == 50_000 and 0.15 < found.change < 0.22


def test_one_outlier_is_no_trend():
    values = np.ones(60) + noise(60, 3)
    values[0] = 50.0
    assert abs(trend(values).change) < 0.1


def test_few_values_are_not_judged():
    assert trend([1.0] * (MIN_VALUES - 1)) is None and trend([0.0] * 50) is None


def test_constant_values_have_no_trend():
    assert trend([2.0] * 40).change == 0.0
