"""Expert ids of the bench: histograms to the slot, no expert twice in a token, the same ids for the same seed."""

import json

import numpy as np
import pytest

from harness.errors import UsageError
from harness.kernel_bench.apportion import apportion
from harness.kernel_bench.routing import draw, fixed_counts, one_expert, parse_routing

ARTICLE = [60, 48, 40, 32, 24, 20, 12, 4]


def counts_of(slots, num_experts=8):
    return np.bincount(slots.ids_TK.ravel(), minlength=num_experts)


def drawn(text, tokens, *, seed=0, copy=0, num_experts=8, top_k=2):
    return draw(parse_routing(text), tokens, num_experts, top_k, seed=seed, copy=copy)


@pytest.mark.parametrize("text", ["uniform", "zipf", "zipf:2.5", "hot70"])
@pytest.mark.parametrize("tokens", [pytest.param(1, id="one-token"), pytest.param(7, id="odd"), pytest.param(512, id="many")])
def test_a_token_takes_an_expert_once_and_its_weights_sum_to_one(text, tokens):
    slots = drawn(text, tokens)
    assert slots.ids_TK.shape == (tokens, 2) and slots.weights_TK.dtype == np.float32
    assert (slots.ids_TK[:, 0] != slots.ids_TK[:, 1]).all()
    assert slots.ids_TK.min() >= 0 and slots.ids_TK.max() < 8
    np.testing.assert_allclose(slots.weights_TK.sum(1), 1, atol=2**-22)  # two float32 roundings
    assert (np.diff(slots.weights_TK, axis=1) <= 0).all()


@pytest.mark.parametrize("text", ["uniform", "zipf:1.2", "hot70"])
def test_the_same_seed_gives_the_same_ids_and_every_copy_its_own(text):
    first, again = drawn(text, 64, seed=3), drawn(text, 64, seed=3)
    np.testing.assert_array_equal(first.ids_TK, again.ids_TK)
    np.testing.assert_array_equal(first.weights_TK, again.weights_TK)
    assert (drawn(text, 64, seed=4).ids_TK != first.ids_TK).any()
    assert (drawn(text, 64, seed=3, copy=1).ids_TK != first.ids_TK).any()


@pytest.mark.parametrize("tokens", [5, 10, 100, 4096])
def test_hot70_puts_seventy_percent_of_the_slots_on_two_experts(tokens):
    counts = counts_of(drawn("hot70", tokens))
    assert counts.sum() == 2 * tokens
    assert abs(counts[:2].sum() - 0.7 * 2 * tokens) <= 1  # whole slots
    assert counts[2:].max() - counts[2:].min() <= 1


def test_zipf_ranks_the_experts_and_a_larger_exponent_is_more_skewed():
    # 20 000 slots: neighbors' expected counts differ by more than 5 standard deviations (sqrt(20 000 p) < 90).
    one, two = counts_of(drawn("zipf:1", 10_000)), counts_of(drawn("zipf:2", 10_000))
    assert (np.diff(one) < 0).all() and (np.diff(two) < 0).all()
    assert two[0] > one[0] and two[-1] < one[-1]


def test_zipf_with_exponent_zero_is_uniform():
    counts = counts_of(drawn("zipf:0", 10_000))
    assert np.abs(counts - 2500).max() < 5 * np.sqrt(2500)


def test_a_recorded_histogram_is_replayed_exactly(tmp_path):
    file = tmp_path / "histogram.json"
    file.write_text(json.dumps(ARTICLE))
    for seed in range(3):
        slots = drawn(f"recorded:{file}", sum(ARTICLE) // 2, seed=seed)
        np.testing.assert_array_equal(counts_of(slots), ARTICLE)
        assert (slots.ids_TK[:, 0] != slots.ids_TK[:, 1]).all()


def test_a_recorded_histogram_is_scaled_by_largest_remainders(tmp_path):
    file = tmp_path / "histogram.json"
    file.write_text(json.dumps({"counts": [ARTICLE, ARTICLE]}))
    spec = parse_routing(f"recorded:{file}")
    assert spec.parameters["counts"] == [2 * count for count in ARTICLE]
    counts = fixed_counts(spec, 12, 8, 2)
    # 24 slots of shares 60, 48, ... of 240 are exactly 6, 4.8, 4, 3.2, 2.4, 2, 1.2, .4: the remainders .8, .4, .4 get one
    np.testing.assert_array_equal(counts, [6, 5, 4, 3, 3, 2, 1, 0])


def test_samples_of_a_run_are_read_as_a_histogram(tmp_path):
    file = tmp_path / "routing.npz"
    np.savez(file, expert_ids=np.array([[[0, 3]], [[3, 1]], [[0, 3]]], dtype=np.uint8))
    np.testing.assert_array_equal(counts_of(drawn(f"recorded:{file}", 3)), [2, 1, 0, 3, 0, 0, 0, 0])


def test_a_parquet_of_counts_is_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "histogram.parquet"
    pq.write_table(pa.table({"expert": list(range(8)), "count": ARTICLE}), file)
    np.testing.assert_array_equal(counts_of(drawn(f"recorded:{file}", 120)), ARTICLE)


def test_apportion_sums_to_the_total_and_respects_the_cap():
    rng = np.random.default_rng(0)
    for _ in range(200):
        experts, tokens = int(rng.integers(2, 12)), int(rng.integers(1, 40))
        top_k = int(rng.integers(1, experts + 1))
        counts = apportion(rng.exponential(size=experts) ** 3, tokens * top_k, tokens)
        assert counts.sum() == tokens * top_k and counts.min() >= 0 and counts.max() <= tokens


def test_one_expert_sends_every_token_to_the_same_experts():
    slots = one_expert(33, 8, 2, seed=0)
    np.testing.assert_array_equal(counts_of(slots), [0, 0, 0, 0, 0, 0, 33, 33])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("skewed", ["uniform, zipf", "'skewed'"], id="unknown-name"),
        pytest.param("zipf:many", ["exponent", "'many'"], id="not-a-number"),
        pytest.param("zipf:-1", ["from 0 to 10"], id="negative-exponent"),
        pytest.param("recorded:", ["recorded:FILE"], id="no-file"),
        pytest.param("recorded:nowhere.json", ["nowhere.json", "no such file"], id="missing-file"),
    ],
)
def test_a_routing_that_is_not_known_is_refused(text, words):
    with pytest.raises(UsageError) as refused:
        parse_routing(text)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("[1, 2", "cannot be read", id="not-json"),
        pytest.param("[0, 0]", "not all 0", id="all-zero"),
        pytest.param("[1.5, 2]", "whole numbers", id="fractions"),
        pytest.param("[-1, 2]", "whole numbers", id="negative"),
    ],
)
def test_a_damaged_histogram_is_refused(tmp_path, content, words):
    file = tmp_path / "histogram.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=words):
        parse_routing(f"recorded:{file}")


def test_a_histogram_that_no_top_k_routing_can_have_is_refused(tmp_path):
    file = tmp_path / "histogram.json"
    file.write_text(json.dumps([120, 95, 10, 8, 5, 2, 1, 3]))
    draw(parse_routing(f"recorded:{file}"), 122, 8, 2, seed=0, copy=0)  # 120 of 244: less than half
    file.write_text(json.dumps([150, 65, 10, 8, 5, 2, 1, 3]))
    with pytest.raises(UsageError, match="at most 1 / 2 of the slots"):
        drawn(f"recorded:{file}", 122)
    file.write_text(json.dumps([1, 1, 1, 1]))
    with pytest.raises(UsageError, match="a count for each of 8 experts"):
        drawn(f"recorded:{file}", 2)
