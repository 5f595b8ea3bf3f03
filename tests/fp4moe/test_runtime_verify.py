"""The check of a layer passes for what is right, in every format, and fails for what is slightly wrong."""

import dataclasses

import pytest
import torch

from fp4moe import reference
from fp4moe.formats import ACTIVATION_FORMATS, WEIGHT_FORMATS
from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig, RandomWeights, check_moe_layer, load_model

CONFIG = MixtralConfig(
    vocab_size=32, hidden_size=128, intermediate_size=64, num_layers=2,
    num_heads=2, num_kv_heads=1, head_dim=16, num_experts=4, top_k=2, max_positions=64,
)  # fmt: skip
X_TD = torch.randn(13, 128, generator=torch.Generator().manual_seed(0))


def model_with(precision, **ops):
    model = load_model(RandomWeights(CONFIG, 5), precision)
    model._ops |= ops
    return model


@pytest.mark.parametrize("activations", ACTIVATION_FORMATS)
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_the_reference_passes(weights, activations):
    check = check_moe_layer(model_with(Precision(weights, None, activations)), 1, X_TD)
    assert check.passed and check.relative_error <= check.bound
    assert "float64" in check.against


def swapped_gate(x, w, routing, activations):
    halves = reference.gate_up(x, dataclasses.replace(w, codes=w.codes.roll(w.shape[1] // 2, dims=1)), routing, activations)
    return halves


def unweighted_down(h, w, routing, activations):
    even = dataclasses.replace(routing, weights_TK=torch.full_like(routing.weights_TK, 0.5))
    return reference.down(h, w, even, activations)


def shifted_scales_down(h, w, routing, activations):
    return reference.down(h, dataclasses.replace(w, scales=w.scales.roll(1, dims=-1)), routing, activations)


def unrounded_down(h, w, routing, activations):
    return reference.down(h, w, routing, "fp32")


def top_one_route(logits, top_k):
    routing = reference.route(logits, top_k)
    return dataclasses.replace(routing, weights_TK=routing.weights_TK * torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"gate_up": swapped_gate}, id="up-used-as-gate"),
        pytest.param({"down": unweighted_down}, id="gate-weights-ignored"),
        pytest.param({"down": shifted_scales_down}, id="block-scales-off-by-one"),
        pytest.param({"route": top_one_route}, id="second-expert-dropped"),
        pytest.param({"down": unrounded_down}, id="activations-not-rounded"),
    ],
)
def test_a_wrong_implementation_fails(wrong):
    check = check_moe_layer(model_with(Precision("nvfp4", None, "nvfp4"), **wrong), 0, X_TD)
    assert not check.passed


def test_nan_fails():
    def nan_down(h, w, routing, activations):
        return reference.down(h, w, routing, activations) * torch.nan

    assert not check_moe_layer(model_with(Precision("nvfp4"), down=nan_down), 0, X_TD).passed
