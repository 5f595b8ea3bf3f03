"""Perplexity and bits per byte on models whose answer is known."""

import math

import pytest

from harness.stats import StatsError, bits_per_byte, mean_nll_nats, perplexity


def test_uniform_model_has_the_perplexity_of_its_vocabulary():
    assert perplexity(10 * math.log(2048), 10) == pytest.approx(2048)


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities():
    nll = -math.log(1 / 2) - math.log(1 / 8)
    assert perplexity(nll, 2) == pytest.approx(math.sqrt(2 * 8))


def test_uniform_bytes_cost_eight_bits_each():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)


def test_bits_per_byte_agrees_with_perplexity_by_tokens_a_byte():
    nll, num_tokens, num_bytes = 123.4, 50, 210
    assert bits_per_byte(nll, num_bytes) == pytest.approx(math.log2(perplexity(nll, num_tokens)) * num_tokens / num_bytes)


def test_certain_model():
    assert (mean_nll_nats(0.0, 5), perplexity(0.0, 5), bits_per_byte(0.0, 5)) == (0, 1, 0)


@pytest.mark.parametrize("function", [mean_nll_nats, perplexity, bits_per_byte])
@pytest.mark.parametrize(
    ("nll", "count", "message"),
    [
        pytest.param(1.0, 0, "must be at least 1", id="nothing-scored"),
        pytest.param(math.nan, 3, "must be finite", id="nan"),
        pytest.param(math.inf, 3, "must be finite", id="impossible-token"),
        pytest.param(-1.0, 3, "not negative", id="log-likelihood-with-its-sign"),
    ],
)
def test_refusals(function, nll, count, message):
    with pytest.raises(StatsError, match=message):
        function(nll, count)


def test_overflow_is_an_error_that_names_the_limit():
    with pytest.raises(StatsError, match=r"below 709\.8 nats \(got 710\.0\)"):
        perplexity(710.0, 1)
