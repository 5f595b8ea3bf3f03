"""The check of a layer passes for what is right, in every format, and fails for what is slightly wrong."""

import dataclasses

import pytest
import torch

from fp4moe import reference
from fp4moe.formats import ACTIVATION_FORMATS, WEIGHT_FORMATS
from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig, RandomWeights, check_moe_layer, checked_layers, checked_tokens, load_model
from fp4moe.runtime.verify import error_bound
from fp4moe.select import IMPLEMENTATIONS
from fp4moe.select.rounding import ROUNDINGS

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


def halves(x, packed, routing, activations, *, gate_up=reference.gate_up, down=reference.down):
    return down(gate_up(x, packed.gate_up, routing, activations), packed.down, routing, activations)


def swapped_gate(x, packed, routing, activations):
    w = packed.gate_up
    swapped = dataclasses.replace(w, codes=w.codes.roll(w.shape[1] // 2, dims=1))
    return halves(x, dataclasses.replace(packed, gate_up=swapped), routing, activations)


def unweighted_down(x, packed, routing, activations):
    even = dataclasses.replace(routing, weights_TK=torch.full_like(routing.weights_TK, 0.5))
    return reference.experts(x, packed, even, activations)


def shifted_scales_down(x, packed, routing, activations):
    shifted = dataclasses.replace(packed.down, scales=packed.down.scales.roll(1, dims=-1))
    return reference.experts(x, dataclasses.replace(packed, down=shifted), routing, activations)


def unrounded_down(x, packed, routing, activations):
    return halves(x, packed, routing, activations, down=lambda h, w, routing, _: reference.down(h, w, routing, "fp32"))


def top_one_route(logits, top_k):
    routing = reference.route(logits, top_k)
    return dataclasses.replace(routing, weights_TK=routing.weights_TK * torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"experts": swapped_gate}, id="up-used-as-gate"),
        pytest.param({"experts": unweighted_down}, id="gate-weights-ignored"),
        pytest.param({"experts": shifted_scales_down}, id="block-scales-off-by-one"),
        pytest.param({"route": top_one_route}, id="second-expert-dropped"),
        pytest.param({"experts": unrounded_down}, id="activations-not-rounded"),
    ],
)
def test_a_wrong_implementation_fails(wrong):
    check = check_moe_layer(model_with(Precision("nvfp4", None, "nvfp4"), **wrong), 0, X_TD)
    assert not check.passed


def test_nan_fails():
    def nan_experts(x, packed, routing, activations):
        return reference.experts(x, packed, routing, activations) * torch.nan

    assert not check_moe_layer(model_with(Precision("nvfp4"), experts=nan_experts), 0, X_TD).passed


def rounding_model(activations, *rounds, stage=None):
    """A model whose experts name `rounds`, and do what `stage` says to h or y."""
    model = model_with(Precision("nvfp4", None, activations))
    choice = model.choices[1]
    row = dataclasses.replace(choice.chosen, rounds=rounds)
    crossover = dataclasses.replace(choice.crossovers[0], choice=dataclasses.replace(choice.crossovers[0].choice, chosen=row))
    model.choices = (model.choices[0], dataclasses.replace(choice, crossovers=(crossover,)))
    if stage is not None:
        model._ops["experts"] = stage
    return model


def rounded_to_bf16(x, packed, routing, activations):
    def gate_up(*arguments):
        return reference.gate_up(*arguments).bfloat16().float()

    return halves(x.bfloat16().float(), packed, routing, activations, gate_up=gate_up).bfloat16().float()


@pytest.mark.parametrize("activations", ["bf16", "fp8", "nvfp4"])
def test_named_roundings_pass_and_the_same_ones_unnamed_fail_where_they_are_larger_than_the_sums(activations):
    named = rounding_model(activations, "x_bf16", "h_bf16", "y_bf16", stage=rounded_to_bf16)
    assert check_moe_layer(named, 0, X_TD).passed
    unnamed = rounding_model("fp32", stage=rounded_to_bf16)
    assert not check_moe_layer(unnamed, 0, X_TD).passed


def test_a_rounding_that_the_activation_format_does_anyway_widens_nothing():
    plain, named = rounding_model("bf16"), rounding_model("bf16", "x_bf16", "h_bf16")
    assert error_bound(plain, 1) == error_bound(named, 1) < error_bound(rounding_model("bf16", "y_bf16"), 1)


def test_every_rounding_of_the_table_is_defined():
    assert {name for row in IMPLEMENTATIONS for name in row.rounds} <= set(ROUNDINGS)


def test_each_implementation_of_a_choice_is_checked():
    model = rounding_model("bf16")
    assert checked_tokens(model, 17) == (17,)
    crossover = model.choices[1].crossovers[0]
    both = (dataclasses.replace(crossover, max_tokens=128), crossover)
    model.choices = (model.choices[0], dataclasses.replace(model.choices[1], crossovers=both))
    assert checked_tokens(model, 17) == (17, 145)
    assert checked_layers(32) == (0, 16, 31) and checked_layers(1) == (0,)
