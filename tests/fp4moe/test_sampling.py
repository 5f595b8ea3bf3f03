"""Greedy and seeded sampling of single requests."""

import pytest
import torch

from fp4moe.errors import EngineError
from fp4moe.runtime.sampling import Sampling, sample


def draw(logits_V, sampling, count):
    generator = sampling.generator()
    return [sample(logits_V, sampling, generator) for _ in range(count)]


def test_greedy_takes_the_largest_and_the_lower_of_two():
    assert sample(torch.tensor([0.0, 3.0, 1.0, 3.0]), Sampling(), None) == 1


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others():
    logits_V = torch.randn(50, generator=torch.Generator().manual_seed(0))
    first = draw(logits_V, Sampling(temperature=1.0, seed=3), 40)
    assert draw(logits_V, Sampling(temperature=1.0, seed=3), 40) == first
    assert draw(logits_V, Sampling(temperature=1.0, seed=4), 40) != first


def test_the_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    draw(torch.zeros(10), Sampling(temperature=1.0), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_frequencies_follow_the_softmax():
    logits_V, temperature, count = torch.tensor([0.0, 1.0, 2.0]), 2.0, 4000
    tokens = draw(logits_V, Sampling(temperature=temperature, seed=1), count)
    expected = (logits_V / temperature).softmax(-1)
    found = torch.bincount(torch.tensor(tokens), minlength=3) / count
    # Five standard deviations of a proportion: 5 * sqrt(p (1 - p) / n) <= 5 * 0.5 / sqrt(4000) = 0.04.
    assert (found - expected).abs().max() < 0.04


@pytest.mark.parametrize(
    ("top_p", "allowed"),
    [
        pytest.param(0.05, {3}, id="smaller-than-the-first-keeps-one"),
        pytest.param(0.65, {3, 1}, id="reached-within-the-second"),
        pytest.param(1.0, {0, 1, 2, 3}, id="everything"),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, allowed):
    logits_V = torch.tensor([0.1, 0.2, 0.1, 0.6]).log()
    assert set(draw(logits_V, Sampling(temperature=1.0, top_p=top_p, seed=5), 300)) == allowed


def test_a_low_temperature_approaches_greedy():
    logits_V = torch.tensor([1.0, 1.5, 0.0])
    assert set(draw(logits_V, Sampling(temperature=0.01), 50)) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"temperature": -1.0},
            r"sampling.temperature: must not be negative \(got -1.0\)",
            id="temperature",
        ),
        pytest.param({"top_p": 0.0}, r"sampling.top_p: must be in \(0, 1\] \(got 0.0\)", id="empty-nucleus"),
        pytest.param({"top_p": 1.5}, r"sampling.top_p: must be in \(0, 1\] \(got 1.5\)", id="above-one"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(EngineError, match=message):
        Sampling(**arguments)
