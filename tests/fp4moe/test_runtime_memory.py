"""Bytes by cause, predicted and held; the peak of a step."""

import pytest
import torch

from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.pocket import checkpoint_dir
from fp4moe.precision import Precision
from fp4moe.runtime import (
    MIXTRAL_8X7B,
    Engine,
    MixtralConfig,
    RandomWeights,
    load_model,
    peak_step_bytes,
    predict_memory_bytes,
)

TINY = MixtralConfig(
    vocab_size=97, hidden_size=64, intermediate_size=128, num_layers=3,
    num_heads=4, num_kv_heads=2, head_dim=16, num_experts=5, top_k=2, max_positions=64,
)  # fmt: skip
POCKET = MixtralConfig.from_json(checkpoint_dir())


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
@pytest.mark.parametrize(
    ("config", "kv_dtype"),
    [pytest.param(TINY, "fp32", id="untied-head"), pytest.param(POCKET, "bf16", id="pocket-shape-tied-head")],
)
def test_prediction_equals_what_is_held(config, kv_dtype, format):
    precision = Precision(format)
    model = load_model(RandomWeights(config), precision)
    engine = Engine(model, max_slots=3, max_context=40, kv_dtype=kv_dtype)
    predicted = predict_memory_bytes(config, precision, max_slots=3, max_context=40, kv_dtype=kv_dtype)
    assert predicted == {**model.memory_bytes(), "kv_cache": engine.kv_cache_bytes}


def test_mixtral_8x7b_in_nvfp4_takes_what_the_arithmetic_says():
    predicted = predict_memory_bytes(MIXTRAL_8X7B, Precision("nvfp4"), max_slots=1, max_context=1024)
    num_expert_weights = 32 * 8 * 3 * 4096 * 14336
    assert predicted["expert_codes"] == num_expert_weights // 2
    assert predicted["expert_scales"] == num_expert_weights // 16
    assert predicted["expert_tensor_scales"] == 32 * 8 * 2 * 4
    assert predicted["kv_cache"] == 32 * 2 * 1024 * 8 * 128 * 2


def test_memory_names_every_tensor_once():
    model = load_model(RandomWeights(TINY), Precision("nvfp4"))
    num_bytes = sum(tensor.nbytes for _, tensor in model.weights.named_tensors())
    assert sum(model.memory_bytes().values()) == num_bytes


def test_peak_counts_what_is_alive_together():
    def step():
        a = torch.ones(1000)  # 4000 bytes
        b = a + 1  # 8000 alive
        del a
        c = b * 2  # 8000 alive
        return c.view(10, 100)[2:]  # a view takes nothing

    assert peak_step_bytes(step) == 8000


def test_peak_ignores_what_was_there_before_and_forgets_what_was_released():
    held = torch.ones(10_000)

    def step():
        for _ in range(5):
            held.sum()
            torch.empty(250)

    assert peak_step_bytes(step) == 1000, "the largest of what is alive at once: 250 floats"


def test_peak_sees_inside_inference_mode():
    model = load_model(RandomWeights(TINY), Precision("bf16"))
    tokens_BT = torch.zeros(2, 16, dtype=torch.int64)
    logits_bytes = 2 * 16 * TINY.vocab_size * 4
    short, long = (peak_step_bytes(lambda n=n: model.score(tokens_BT.repeat(n, 1))) for n in (1, 8))
    assert short >= logits_bytes and long > 4 * short
