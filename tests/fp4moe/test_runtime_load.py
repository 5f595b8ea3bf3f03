"""Weights into the runtime: random sources, quantization of BF16, quantized experts taken as they are."""

import pytest
import torch

from fp4moe.checkpoint import export
from fp4moe.errors import CheckpointError, FormatError
from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.layouts import QuantizedTensor
from fp4moe.pocket import checkpoint_dir
from fp4moe.precision import Precision
from fp4moe.quantize import dequantize, quantize_weight
from fp4moe.runtime import MixtralConfig, RandomWeights, load_model
from fp4moe.runtime.digest import WeightsDigest
from fp4moe.runtime.experts import prepare_down, prepare_gate_up
from fp4moe.runtime.random_weights import STANDARD_DEVIATION, RandomSource

CONFIG = MixtralConfig(
    vocab_size=97, hidden_size=64, intermediate_size=128, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, num_experts=4, top_k=2, max_positions=64,
)  # fmt: skip
NVFP4 = Precision("nvfp4", "absmax", "bf16")


def source():
    return RandomSource(CONFIG, 3, torch.device("cpu"))


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_every_format_loads_with_stacked_experts(format):
    model = load_model(RandomWeights(CONFIG, 3), Precision(format))
    layer = model.weights.layers[1].experts
    assert layer.gate_up.shape == (4, 256, 64) and layer.down.shape == (4, 64, 128)
    assert layer.gate_up.format == layer.down.format == format
    assert [choice.op for choice in model.choices] == ["route", "experts"]


def test_random_weights_depend_on_the_seed_and_the_name_but_not_on_the_order():
    forward, backward = source(), source()
    first = [forward.expert(0, expert, "w1").codes for expert in range(3)]
    last = [backward.expert(0, expert, "w1").codes for expert in reversed(range(3))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(last), strict=True))
    assert not torch.equal(first[0], first[1])
    other = RandomSource(CONFIG, 4, torch.device("cpu")).expert(0, 0, "w1").codes
    assert not torch.equal(first[0], other)


def test_random_weights_are_normal_and_norms_are_one():
    values = source().tensor("model.embed_tokens.weight").float()
    # 6208 samples: the standard error of a standard deviation is s / sqrt(2 n) = 0.9 %; allow five of them.
    assert values.std().item() == pytest.approx(STANDARD_DEVIATION, rel=0.045)
    assert source().tensor("model.norm.weight").eq(1).all()


def test_gate_and_up_share_a_tensor_scale_over_both():
    experts = [source().expert(0, 0, matrix) for matrix in ("w1", "w3")]
    gate_up = load_model(RandomWeights(CONFIG, 3), NVFP4).weights.layers[0].experts.gate_up
    amax = max(float(expert.codes.abs().max()) for expert in experts)
    assert gate_up.tensor_scale.shape == (4,)
    assert gate_up.tensor_scale[0].item() == pytest.approx(amax / (6 * 448), rel=1e-6)


def test_bf16_experts_are_held_as_they_were_drawn():
    layer = load_model(RandomWeights(CONFIG, 3), Precision("bf16")).weights.layers[1].experts
    assert torch.equal(layer.gate_up.codes[2, :128], source().expert(1, 2, "w1").codes)
    assert torch.equal(layer.gate_up.codes[2, 128:], source().expert(1, 2, "w3").codes)
    assert torch.equal(layer.down.codes[2], source().expert(1, 2, "w2").codes)


def test_query_key_and_value_are_stacked_in_that_order():
    layer = load_model(RandomWeights(CONFIG, 3), Precision("bf16")).weights.layers[0]
    parts = [source().tensor(f"model.layers.0.self_attn.{name}_proj.weight") for name in "qkv"]
    assert torch.equal(layer.qkv_ND, torch.cat(parts))


def test_progress_counts_layers():
    calls = []
    load_model(RandomWeights(CONFIG, 3), NVFP4, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_hash_is_that_of_the_stored_bytes():
    first = load_model(RandomWeights(CONFIG, 3), NVFP4)
    again = load_model(RandomWeights(CONFIG, 3), Precision("nvfp4", "absmax", "fp8"))
    assert first.weights_sha256 == again.weights_sha256, "activations are not weights"
    others = (
        load_model(RandomWeights(CONFIG, 4), NVFP4),
        load_model(RandomWeights(CONFIG, 3), Precision("nvfp4")),
    )
    assert len({first.weights_sha256, *(other.weights_sha256 for other in others)}) == 3


def digest_of(model) -> str:
    digest = WeightsDigest()
    for name, tensor in model.weights.named_tensors():
        digest.add(name, tensor)
    return digest.hexdigest()


def test_hash_taken_while_loading_is_that_of_what_is_held_and_sees_one_bit():
    model = load_model(RandomWeights(CONFIG, 3), NVFP4)
    assert digest_of(model) == model.weights_sha256
    model.weights.layers[1].experts.down.codes[0, 0, 0] ^= 1
    assert digest_of(model) != model.weights_sha256


def matrix(seed, rows=32, scale=None):
    w = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)) * seed
    return quantize_weight(w, "nvfp4", "absmax", tensor_scale=scale)


def test_quantized_experts_are_taken_bit_for_bit():
    gate, up = matrix(1, scale=0.5), matrix(2, scale=0.5)
    both = prepare_gate_up(gate, up, NVFP4, name="w1 and w3")
    assert torch.equal(both.codes, torch.cat([gate.codes, up.codes])) and both.tensor_scale.ndim == 0
    assert torch.equal(dequantize(both), torch.cat([dequantize(gate), dequantize(up)]))
    assert prepare_down(gate, NVFP4, name="w2") is gate


def test_different_scales_of_gate_and_up_are_both_kept():
    gate, up = matrix(1), matrix(3)
    both = prepare_gate_up(gate, up, NVFP4, name="w1 and w3")
    assert torch.equal(dequantize(both), torch.cat([dequantize(gate), dequantize(up)]))


def test_quantized_weights_are_not_requantized():
    with pytest.raises(CheckpointError, match="layer 0 w2: must be stored as bf16 or mxfp4 .* .got nvfp4."):
        prepare_down(matrix(1), Precision("mxfp4"), name="layer 0 w2")
    with pytest.raises(CheckpointError, match="layer 0 w1: must be stored as bf16 or mxfp4"):
        prepare_gate_up(matrix(1), matrix(1), Precision("mxfp4"), name="layer 0 w1")


def test_nan_in_a_bf16_expert_is_named():
    codes = torch.full((32, 64), torch.nan, dtype=torch.bfloat16)
    with pytest.raises(FormatError, match="layer 0 expert 3 w2"):
        prepare_down(QuantizedTensor("bf16", "none", (32, 64), codes), NVFP4, name="layer 0 expert 3 w2")


@pytest.mark.parametrize(
    ("layout", "weights", "method"),
    [
        pytest.param("modelopt-nvfp4", "nvfp4", "four_six", id="modelopt"),
        pytest.param("ct-nvfp4", "nvfp4", "search", id="compressed-tensors-reciprocal-scale"),
        pytest.param("ct-mxfp4", "mxfp4", "absmax", id="compressed-tensors-mxfp4"),
        pytest.param("ct-fp8", "fp8", "absmax", id="compressed-tensors-fp8"),
    ],
)
def test_an_exported_checkpoint_loads_to_the_weights_it_was_made_from(layout, weights, method, tmp_path):
    export(checkpoint_dir(), tmp_path / "out", layout=layout, method=method)
    quantized_here = load_model(checkpoint_dir(), Precision(weights, method))
    loaded = load_model(tmp_path / "out", Precision(weights, None if method == "absmax" else method))
    for ours, theirs in zip(quantized_here.weights.layers, loaded.weights.layers, strict=True):
        for part in ("gate_up", "down"):
            left, right = dequantize(getattr(ours.experts, part)), dequantize(getattr(theirs.experts, part))
            # A reciprocal tensor scale is rounded twice on its way to disk and back: two ulp of float32.
            torch.testing.assert_close(left, right, rtol=2.0**-22, atol=0)
    assert loaded.precision.method == method, "the model names what its weights are, not what was asked for"
    assert loaded.memory_bytes() == quantized_here.memory_bytes()


def test_a_quantized_checkpoint_of_another_format_is_refused_with_the_expert_named(tmp_path):
    export(checkpoint_dir(), tmp_path / "out", layout="ct-mxfp4", method="absmax")
    with pytest.raises(CheckpointError, match="layer 0 expert 0 w1 and w3: must be stored as bf16 or nvfp4"):
        load_model(tmp_path / "out", NVFP4)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "nothing", NVFP4)
