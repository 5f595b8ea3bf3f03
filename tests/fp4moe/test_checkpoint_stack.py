"""Joining imported matrices changes no value, whatever their tensor scales."""

from dataclasses import replace

import pytest
import torch

from fp4moe.checkpoint import split_rows, stack_experts, stack_gate_up
from fp4moe.errors import FormatError
from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.quantize import dequantize, quantize_weight


def matrix(seed: int, format: str = "nvfp4", **kwargs):
    w = torch.randn(12, 128, generator=torch.Generator().manual_seed(seed))
    return quantize_weight(w, format, **kwargs)


def values_of(*parts):
    return torch.cat([dequantize(p) for p in parts])


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_gate_above_up_and_back(format):
    kwargs = {"tensor_scale": 0.001} if format == "nvfp4" else {}
    gate, up = matrix(0, format, **kwargs), matrix(1, format, **kwargs)
    joined = stack_gate_up(gate, up)
    assert joined.shape == (24, 128) and not joined.has_row_tensor_scales
    assert torch.equal(dequantize(joined), values_of(gate, up))
    for half, original in zip(split_rows(joined, 12), (gate, up), strict=True):
        assert half.shape == original.shape and torch.equal(dequantize(half), dequantize(original))


@pytest.mark.parametrize("power", [1, 2, -1, -2])
def test_tensor_scales_a_power_of_two_apart_become_one(power):
    # absmax scales of these blocks stay well inside E4M3's normal range when moved by four.
    gate = matrix(0, method="absmax", tensor_scale=2.0**-8)
    up = matrix(1, method="absmax", tensor_scale=2.0 ** (-8 + power))
    joined = stack_gate_up(gate, up)
    assert joined.tensor_scale.shape == () and joined.tensor_scale in (gate.tensor_scale, up.tensor_scale)
    assert torch.equal(dequantize(joined), values_of(gate, up))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(0.003, id="no-power-of-two-apart"),
        pytest.param(2.0**-30, id="power-of-two-out-of-range-for-the-block-scales"),
    ],
)
def test_other_tensor_scales_stay_one_a_row(other):
    gate, up = matrix(0, tensor_scale=2.0**-8), matrix(1, tensor_scale=other)
    joined = stack_gate_up(gate, up)
    assert joined.has_row_tensor_scales and joined.tensor_scale.shape == (24,)
    assert torch.equal(dequantize(joined), values_of(gate, up))
    assert torch.equal(dequantize(split_rows(joined, 12)[1]), dequantize(up))


def test_experts_with_and_without_row_scales_stack():
    plain = stack_gate_up(matrix(0, tensor_scale=0.25), matrix(1, tensor_scale=0.25))
    rows = stack_gate_up(matrix(2, tensor_scale=0.25), matrix(3, tensor_scale=0.003))
    stacked = stack_experts([plain, rows])
    assert stacked.shape == (2, 24, 128) and stacked.tensor_scale.shape == (2, 24)
    assert torch.equal(dequantize(stacked[0]), dequantize(plain))
    assert torch.equal(dequantize(stacked), torch.stack([dequantize(plain), dequantize(rows)]))


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_experts_stack_and_index(format):
    experts = [matrix(seed, format) for seed in range(3)]
    stacked = stack_experts(experts)
    for index, expert in enumerate(experts):
        assert torch.equal(dequantize(stacked[index]), dequantize(expert))


def test_unlike_matrices_are_refused():
    with pytest.raises(FormatError, match="must agree in format and shape .*mxfp4.*nvfp4"):
        stack_gate_up(matrix(0), matrix(0, "mxfp4"))
    with pytest.raises(FormatError, match="must agree in format and shape"):
        stack_experts([matrix(0), replace(split_rows(matrix(0), 4)[0])])
