"""Kernels that round weights are held against the reference on the weights as they round them."""

import pytest
import torch

from fp4moe.cuda.e4m3_layout import as_fp8
from fp4moe.layouts import RowExperts
from fp4moe.quantize.random_codes import random_quantized
from harness.backends import moe_layer
from harness.kernel_bench import quality, routing
from harness.kernel_bench.check import References, make_case
from harness.kernel_bench.contenders import of_row
from harness.kernel_bench.formats import parse_format
from harness.kernel_bench.shapes import LayerShape
from harness.precisions import Precision

CPU = torch.device("cpu")
SHAPE = LayerShape("small", 128, 128, 2, 1)


def contender(name: str, precision: str):
    row = next(row for row in moe_layer.experts_rows() if row.name == name)
    return of_row(row, parse_format(precision), SHAPE)


@pytest.fixture(scope="module")
def rows():
    shapes = (2, 256, 128), (2, 128, 128)
    return tuple(random_quantized("nvfp4", shape, seed=seed, device=CPU) for seed, shape in enumerate(shapes))


def test_the_answer_is_computed_from_rounded_weights(rows):
    slots = routing.draw(routing.parse_routing("uniform"), 9, 2, 1, seed=0, copy=0)
    case = make_case("nine", slots, SHAPE, seed=0, device=CPU)
    references = References({"nvfp4": rows})
    stored = references.of(contender("triton-grouped", "nvfp4-a8"), case)
    rounded = references.of(contender("cuda-e4m3", "nvfp4-a8"), case)
    both = tuple(map(as_fp8, rows))
    right = moe_layer.reference_layer(both, case.x_TD, case.routed.ids_TK, case.routed.weights_TK, activations="fp8")
    assert torch.equal(rounded, right) and not torch.equal(rounded, stored)


def test_fp8_weights_are_taken_as_they_are():
    assert contender("cuda-fp8", "fp8-a8").rounds_weights is None


def test_a_model_with_rounded_experts_has_them():
    model = moe_layer.load_pocket("reference", weights="nvfp4", method="absmax", activations="fp8", device=CPU)
    changed = moe_layer.with_experts(model, contender("cuda-e4m3", "nvfp4-a8").rounded)
    before, after = (one.weights.layers[1].experts for one in (model, changed))
    assert isinstance(after, RowExperts) and after.gate_up.format == "fp8"
    assert torch.equal(after.down.codes.view(torch.uint8), as_fp8(before.down).codes.view(torch.uint8))


@pytest.mark.parametrize(
    ("activations", "device", "is_large"),
    [
        pytest.param("fp8", "cuda", True, id="flips-need-a-larger-sample"),
        pytest.param("bf16", "cuda", False, id="no-flips"),
        pytest.param("fp8", "cpu", False, id="too-slow-on-a-cpu"),
    ],
)
def test_how_much_is_scored(activations, device, is_large):
    found = quality.sample_of(Precision("nvfp4", "search", activations), torch.device(device))
    large, small = (quality.LARGE_WINDOW_TOKENS, quality.LARGE_MAX_TOKENS), (quality.WINDOW_TOKENS, quality.MAX_TOKENS)
    assert found == (large if is_large else small)
