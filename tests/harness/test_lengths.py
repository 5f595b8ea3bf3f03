"""Token counts: inside their bounds, distributed as asked, seeded."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from harness.scenario.lengths import PromptLength, bounds
from harness.workload.lengths import draw_lengths

COUNT = 20_000
MIN_PVALUE = 0.001  # as in test_arrivals


def spec(value):
    return TypeAdapter(PromptLength).validate_python(value)


def draw(value, seed: int = 3) -> np.ndarray:
    return draw_lengths(spec(value), COUNT, np.random.default_rng(seed))


KINDS = {
    "number": 17,
    "uniform": {"kind": "uniform", "low": 5, "high": 14},
    "lognormal": {"kind": "lognormal", "median": 200.0, "sigma": 1.0, "low": 10, "high": 900},
    "zipf": {"kind": "zipf", "exponent": 1.2, "low": 3, "high": 40},
    "empirical": {"kind": "empirical", "tokens": [4, 90, 8], "weights": [1.0, 2.0, 5.0]},
}


@pytest.mark.parametrize("value", KINDS.values(), ids=KINDS)
def test_inside_the_bounds_and_seeded(value):
    drawn, (low, high) = draw(value), bounds(spec(value))
    assert drawn.min() >= low and drawn.max() <= high and drawn.dtype == np.int64
    assert (drawn == draw(value)).all()


def chisquare(drawn: np.ndarray, values: list[int], probabilities: np.ndarray) -> float:
    seen = [(drawn == value).sum() for value in values]
    return stats.chisquare(seen, probabilities * COUNT).pvalue


def test_uniform_has_both_ends():
    assert chisquare(draw(KINDS["uniform"]), list(range(5, 15)), np.full(10, 0.1)) > MIN_PVALUE


def test_zipf_falls_by_rank():
    weights = np.arange(1, 39) ** -1.2
    assert chisquare(draw(KINDS["zipf"]), list(range(3, 41)), weights / weights.sum()) > MIN_PVALUE


def test_empirical_has_the_weights():
    assert chisquare(draw(KINDS["empirical"]), [4, 90, 8], np.array([1, 2, 5]) / 8) > MIN_PVALUE


def test_lognormal_has_its_median_and_spread():
    drawn = draw({"kind": "lognormal", "median": 200.0, "sigma": 0.5, "low": 1, "high": 100_000})
    logs = np.log(drawn)
    # Standard errors: of the median 1.25 * sigma / sqrt(n) = 0.0044, of the deviation sigma / sqrt(2 n) = 0.0025; 4 of each.
    assert abs(np.median(logs) - np.log(200)) < 0.018 and abs(logs.std() - 0.5) < 0.010


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        pytest.param("many", "valid integer", id="text"),
        pytest.param({"kind": "normal"}, "must be a number of tokens, or have `kind`", id="unknown-kind"),
        pytest.param({"low": 3}, "must be a number of tokens, or have `kind`", id="no-kind"),
        pytest.param(0, "greater than 0", id="zero"),
        pytest.param({"kind": "uniform", "low": 9, "high": 3}, "low must be at most high", id="uniform-reversed"),
        pytest.param({"kind": "zipf", "exponent": 1.0, "low": 9, "high": 3}, "low must be at most high", id="zipf-reversed"),
        pytest.param(
            {"kind": "lognormal", "median": 5.0, "sigma": 1.0, "low": 9, "high": 20}, "between low and high", id="median"
        ),
        pytest.param({"kind": "empirical", "tokens": [1, 2], "weights": [1.0]}, "as many as tokens", id="weights-missing"),
        pytest.param({"kind": "empirical", "tokens": [1], "weights": [0.0]}, "must not all be 0", id="weights-all-zero"),
    ],
)
def test_mistakes(value, rule):
    with pytest.raises(ValidationError, match=rule):
        spec(value)
