"""The decoder itself: causality, prefill and decode against whole sequences, cached numbers, recording."""

import pytest
import torch

from fp4moe.pocket import checkpoint_dir
from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig, RandomWeights, RoutingRecorder, load_model
from fp4moe.runtime.kv_cache import KVCache
from fp4moe.runtime.layers import rms_norm, rotary_tables, rotate

CONFIG = MixtralConfig(
    vocab_size=97, hidden_size=64, intermediate_size=64, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, num_experts=4, top_k=2, rope_theta=1e4, max_positions=64,
)  # fmt: skip
EXACT = Precision("bf16", "none", "fp32")
# Logits are about 1; the longest chain of float32 sums is 2 layers of reductions over 64, far under 1e-5.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model():
    return load_model(RandomWeights(CONFIG, seed=1), EXACT)


def tokens_of(*shape):
    return torch.randint(CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(len(shape)))


def cache_of(kv_dtype, max_slots=3):
    return KVCache(CONFIG, max_slots=max_slots, max_context=32, kv_dtype=kv_dtype, device="cpu")


def test_score_returns_float32_logits_that_do_not_see_the_future(model):
    tokens_BT = tokens_of(3, 11)
    logits_BTV = model.score(tokens_BT)
    assert logits_BTV.shape == (3, 11, CONFIG.vocab_size) and logits_BTV.dtype == torch.float32
    changed_BT = tokens_BT.clone()
    changed_BT[:, 7:] = 0
    torch.testing.assert_close(model.score(changed_BT)[:, :7], logits_BTV[:, :7], rtol=0, atol=TOLERANCE)


def test_a_sequence_scores_the_same_alone(model):
    tokens_BT = tokens_of(4, 9)
    torch.testing.assert_close(model.score(tokens_BT)[2:3], model.score(tokens_BT[2:3]), rtol=0, atol=TOLERANCE)


def test_prefill_and_decode_give_the_logits_of_the_whole_sequence(model):
    tokens_T = tokens_of(12)
    whole_TV = model.score(tokens_T.unsqueeze(0))[0]
    cache = cache_of("fp32")
    torch.testing.assert_close(model.prefill(tokens_T[:5], cache, 1), whole_TV[4], rtol=0, atol=TOLERANCE)
    for position in range(5, 12):
        logits_BV = model.decode(tokens_T[position : position + 1], torch.tensor([position]), torch.tensor([1]), cache)
        torch.testing.assert_close(logits_BV[0], whole_TV[position], rtol=0, atol=TOLERANCE)


def test_ragged_decode_serves_each_request_at_its_own_position(model):
    cache, lengths, slots = cache_of("fp32"), [1, 8, 3], [2, 0, 1]
    prompts = [tokens_of(length + 1) for length in lengths]
    for prompt, slot in zip(prompts, slots, strict=True):
        model.prefill(prompt[:-1], cache, slot)
    last_B = torch.stack([prompt[-1] for prompt in prompts])
    logits_BV = model.decode(last_B, torch.tensor(lengths), torch.tensor(slots), cache)
    for prompt, logits_V in zip(prompts, logits_BV, strict=True):
        torch.testing.assert_close(logits_V, model.score(prompt.unsqueeze(0))[0, -1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("weights", ["bf16", "nvfp4"])
def test_decode_gives_the_same_bits_alone_and_among_others(weights):
    model = load_model(checkpoint_dir(), Precision(weights, None, "bf16"))
    lengths = [3, 70, 20, 61, 5, 64, 40]
    cache = KVCache(model.config, max_slots=7, max_context=100, kv_dtype="bf16", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for slot, length in enumerate(lengths):
        model.prefill(torch.randint(2048, (length,), generator=generator), cache, slot)
    columns = torch.arange(7), torch.tensor(lengths), torch.arange(7)
    together_BV = model.decode(*columns, cache)
    for rows in ([0], [1], [4, 6], [5, 2, 3]):
        assert torch.equal(model.decode(*(column[rows] for column in columns), cache), together_BV[rows])


def test_prefill_and_decode_see_the_same_rounded_keys_and_values(model):
    tokens_T, cache = tokens_of(9), cache_of("bf16")
    model.prefill(tokens_T[:8], cache, 0)
    decoded_V = model.decode(tokens_T[8:], torch.tensor([8]), torch.tensor([0]), cache)[0]
    prefilled_V = model.prefill(tokens_T, cache, 1)
    unrounded_V = model.score(tokens_T.unsqueeze(0))[0, -1]
    torch.testing.assert_close(decoded_V, prefilled_V, rtol=0, atol=TOLERANCE)
    assert (prefilled_V - unrounded_V).abs().max() > 10 * TOLERANCE, "BF16 keys must make a difference, else not rounded"


def test_a_reused_slot_does_not_see_its_former_tenant(model):
    cache, short_T = cache_of("fp32"), tokens_of(3)
    model.prefill(tokens_of(20), cache, 0)
    model.prefill(short_T[:2], cache, 0)
    logits_V = model.decode(short_T[2:], torch.tensor([2]), torch.tensor([0]), cache)[0]
    torch.testing.assert_close(logits_V, model.score(short_T.unsqueeze(0))[0, -1], rtol=0, atol=TOLERANCE)


def test_score_records_every_token_with_its_row(model):
    recorder = RoutingRecorder(CONFIG.num_layers)
    model.score(tokens_of(2, 5), recorder)
    model.score(tokens_of(1, 3), recorder)
    arrays = recorder.arrays()
    assert arrays["expert_ids"].shape == (13, CONFIG.num_layers, CONFIG.top_k)
    assert arrays["request"].tolist() == [0] * 5 + [1] * 5 + [0] * 3
    assert arrays["step"].tolist() == [0] * 10 + [1] * 3
    assert set(arrays["phase"].tolist()) == {2}


def test_score_works_inside_inference_mode(model):
    with torch.inference_mode():
        assert model.score(tokens_of(1, 4)).is_inference()


def test_rotation_depends_on_the_distance_alone_and_keeps_length():
    q_d, k_d = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    def product(query_position, key_position):
        cos, sin = rotary_tables(torch.tensor([query_position, key_position]), 16, 1e4)
        q, k = rotate(torch.stack([q_d, k_d]).unsqueeze(1), cos, sin)[:, 0]
        return float(q @ k), float(q.norm())

    near, far = product(3, 1), product(40, 38)
    assert near == pytest.approx(far, abs=1e-4)
    assert near[1] == pytest.approx(float(q_d.norm()), rel=1e-6)
    assert product(0, 0)[0] == pytest.approx(float(q_d @ k_d), rel=1e-6)


def test_rms_norm_is_that_of_torch():
    x_ND, weight_D = torch.randn(5, 64), torch.randn(64).bfloat16()
    expected = torch.nn.functional.rms_norm(x_ND, (64,), weight_D.float(), 1e-5)
    torch.testing.assert_close(rms_norm(x_ND, weight_D, 1e-5), expected)
