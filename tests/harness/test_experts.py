"""Expert usage of a trace: exact on hand examples, expectation under uniform routing, refusals."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from harness.collect.experts import RoutingError, experts_hit, layer_usage, next_step_repeat_rate

RECORD_KEYS = [
    "layer",
    "histogram",
    "max_over_mean",
    "cv",
    "gini",
    "entropy_bits",
    "active_per_step",
    "top2_share",
]


def trace(*pairs: tuple[int, ...]) -> np.ndarray:
    """One layer: uint8 [tokens, 1, k]."""
    return np.array(pairs, dtype=np.uint8)[:, None, :]


def usage(ids, step=None, num_experts=8):
    [only] = layer_usage(ids, np.arange(len(ids)) if step is None else step, num_experts)
    return only


def test_even_usage():
    even = usage(trace((0, 1), (2, 3), (4, 5), (6, 7)))
    assert even.histogram == (1,) * 8
    assert (even.max_over_mean, even.cv, even.gini, even.entropy_bits) == (1, 0, 0, 3)
    assert (even.active_per_step, even.top2_share) == (2, 0.25)


def test_all_on_one_pair():
    pair = usage(trace((2, 5), (5, 2), (2, 5)))
    assert pair.histogram == (0, 0, 3, 0, 0, 3, 0, 0)
    # Two of eight at 4 times the mean and six at 0: variance 3 means squared; gini 1 - 2 / 8; one bit.
    assert (pair.max_over_mean, pair.gini, pair.entropy_bits, pair.top2_share) == (4, 0.75, 1, 1)
    assert pair.cv == pytest.approx(math.sqrt(3))


def test_all_on_one_expert():
    one = usage(trace((3,), (3,)))
    assert (one.gini, one.entropy_bits, one.max_over_mean) == (1 - 1 / 8, 0, 8)


def test_skewed_histogram():
    counts = [120, 95, 10, 8, 5, 2, 1, 0]
    skewed = usage(np.repeat(np.arange(8, dtype=np.uint8), counts)[:, None, None])
    p = np.array(counts) / 241
    assert skewed.histogram == tuple(counts)
    assert skewed.top2_share == 215 / 241
    assert round(skewed.top2_share, 3) == 0.892
    assert skewed.max_over_mean == pytest.approx(120 * 8 / 241)
    assert skewed.cv == pytest.approx(np.std(counts) / np.mean(counts))
    assert skewed.entropy_bits == pytest.approx(-sum(x * math.log2(x) for x in p if x))
    # Gini by its other definition: mean absolute difference over twice the mean.
    assert skewed.gini == pytest.approx(np.abs(p[:, None] - p[None, :]).mean() / (2 * p.mean()))


def test_same_histogram_different_active_per_step():
    ids = trace((0, 1), (0, 1), (2, 3), (2, 3))
    together, apart = usage(ids, [0, 0, 1, 1]), usage(ids, [0, 1, 0, 1])
    assert together.histogram == apart.histogram
    assert (together.active_per_step, apart.active_per_step) == (2, 4)


def test_layers_are_kept_apart_and_numbered():
    ids = np.array([[[0, 1], [2, 3]], [[0, 1], [4, 5]]], dtype=np.uint8)
    first, second = layer_usage(ids, [0, 0], 8)
    assert (first.layer, first.histogram, first.active_per_step) == (0, (2, 2, 0, 0, 0, 0, 0, 0), 2)
    assert (second.layer, second.histogram, second.active_per_step) == (1, (0, 0, 1, 1, 1, 1, 0, 0), 4)


def test_as_dict_is_the_record_form():
    plain = asdict(usage(trace((0, 1))))
    assert list(plain) == RECORD_KEYS
    assert json.loads(json.dumps(plain))["histogram"] == [1, 1, 0, 0, 0, 0, 0, 0]


def test_steps_need_not_be_sorted_or_dense():
    hit = experts_hit(trace((7, 1), (0, 2), (1, 3)), np.array([90, -4, 90]), 8)
    assert [np.flatnonzero(row).tolist() for row in hit[:, 0]] == [[0, 2], [1, 3, 7]]


@pytest.mark.parametrize("tokens", [1, 2, 4, 8, 16])
def test_active_experts_under_uniform_routing(tokens):
    rng = np.random.default_rng(tokens)
    num_steps = 20_000
    ids = rng.permuted(np.tile(np.arange(8), (num_steps * tokens, 1)), axis=1)[:, None, :2].astype(np.uint8)
    active = usage(ids, np.repeat(np.arange(num_steps), tokens)).active_per_step
    # Hits of different experts are negatively correlated, so the variance of their count is at most
    # 8 q (1 - q) <= 2; five standard errors of the mean over steps.
    assert active == pytest.approx(8 * (1 - 0.75**tokens), abs=5 * math.sqrt(2 / num_steps))


def test_repeat_rate_on_a_hand_example():
    # Request 5: {0,1} -> {1,2} shares one of two, {1,2} -> {1,2} both. Request 6 has one token. Mean 1.5 / 2.
    ids = trace((0, 1), (3, 4), (2, 1), (1, 2))
    assert next_step_repeat_rate(ids, [0, 0, 1, 3], [5, 6, 5, 5]) == (0.75, 2, None)


def test_repeat_rate_is_a_mean_over_layers():
    ids = np.array([[[0, 1], [0, 1]], [[0, 1], [2, 3]]], dtype=np.uint8)
    assert next_step_repeat_rate(ids, [0, 1], [0, 0]).value == 0.5


def test_repeat_rate_does_not_pair_across_requests():
    assert next_step_repeat_rate(trace((0, 1), (0, 1)), [0, 1], [0, 1]) == (
        None,
        0,
        "no request has two tokens in a row",
    )


def test_repeat_rate_of_independent_uniform_routing_is_k_over_experts():
    rng = np.random.default_rng(11)
    num_tokens = 20_000
    ids = rng.permuted(np.tile(np.arange(8), (num_tokens, 1)), axis=1)[:, None, :2]
    rate = next_step_repeat_rate(ids, np.arange(num_tokens), np.zeros(num_tokens, dtype=np.int32))
    # One pair's share varies by at most .5: five standard errors of the mean.
    assert rate.value == pytest.approx(2 / 8, abs=5 * 0.5 / math.sqrt(num_tokens))


@pytest.mark.parametrize(
    ("ids", "step", "message"),
    [
        pytest.param(np.zeros((2, 2), np.uint8), [0, 1], r"\[tokens, layers, k\]", id="no-layer-axis"),
        pytest.param(np.zeros((1, 1, 1)), [0], "got float64", id="not-integers"),
        pytest.param(np.zeros((0, 1, 2), np.uint8), [], "must hold a token", id="no-tokens"),
        pytest.param(trace((0, 1)), [0, 1], r"step: .*\(2,\) for 1", id="steps-of-other-length"),
        pytest.param(trace((0, 8)), [0], r"got 0\.\.8 of 8 experts", id="expert-out-of-range"),
        pytest.param(np.array([[[-1, 1]]]), [0], r"got -1\.\.1", id="padding-id"),
        pytest.param(trace((0, 1), (2, 2)), [0, 1], r"expert_ids\[1, 0\]: .*\[2, 2\]", id="same-expert-twice"),
    ],
)
def test_refusals(ids, step, message):
    with pytest.raises(RoutingError, match=message):
        layer_usage(ids, step, 8)


@pytest.mark.parametrize(
    ("request_ids", "message"),
    [
        pytest.param([0], r"request: .*\(1,\) for 2", id="requests-of-other-length"),
        pytest.param([0, 0], "pass decode rows only", id="prefill-rows"),
    ],
)
def test_repeat_rate_refusals(request_ids, message):
    with pytest.raises(RoutingError, match=message):
        next_step_repeat_rate(trace((0, 1), (0, 1)), [4, 4], request_ids)
