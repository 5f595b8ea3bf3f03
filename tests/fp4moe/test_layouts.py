"""A QuantizedTensor holds together, really takes 4 bits, and can be indexed by expert."""

import dataclasses

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.quantize import dequantize, quantize_weight

SHAPE = (4, 6, 128)  # E, N, K; 128 is a multiple of every block


def make(format: str) -> QuantizedTensor:
    return quantize_weight(torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)), format)


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_bytes_are_those_of_the_format(format):
    fmt, q = WEIGHT_FORMATS[format], make(format)
    num_weights = 4 * 6 * 128
    row_scales = 4 * 6 * 4 if format == "fp8" else 0
    sizes = q.nbytes()
    assert sizes["codes"] == num_weights * fmt.element_bits // 8
    assert sizes["codes"] + sizes["scales"] == num_weights * fmt.bits_per_weight / 8 + row_scales
    assert sizes["tensor_scales"] == (4 * 4 if fmt.has_tensor_scale else 0)


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
@pytest.mark.parametrize(
    ("index", "shape"),
    [
        pytest.param(2, (6, 128), id="one-expert"),
        pytest.param(slice(1, 3), (2, 6, 128), id="slice"),
        pytest.param(torch.tensor([3, 0, 3]), (3, 6, 128), id="gather-with-repeats"),
        pytest.param([1], (1, 6, 128), id="list"),
    ],
)
def test_indexing_experts_is_indexing_values(format, index, shape):
    q = make(format)
    part = q[index]
    assert part.shape == shape
    assert torch.equal(dequantize(part), dequantize(q)[index])


def test_a_matrix_has_no_expert_axis_to_index():
    with pytest.raises(FormatError, match="only leading axes can be indexed"):
        make("nvfp4")[0][0]


def test_moving_keeps_everything():
    q = make("nvfp4")
    moved = q.to("cpu")
    assert moved.device == torch.device("cpu")
    assert torch.equal(dequantize(moved), dequantize(q))


def test_tensor_scale_of_one_matrix_has_no_axis():
    assert make("nvfp4")[0].tensor_scale.shape == ()


def test_tensor_scale_may_be_one_a_row():
    q = make("nvfp4")
    rows = q.tensor_scale.unsqueeze(-1).expand(4, 6).contiguous()
    by_row = QuantizedTensor("nvfp4", "search", q.shape, q.codes, q.scales, rows)
    assert by_row.has_row_tensor_scales and not q.has_row_tensor_scales
    assert torch.equal(dequantize(by_row), dequantize(q))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        pytest.param("codes", torch.zeros(4, 6, 128, dtype=torch.uint8), "codes: must be ..4, 6, 64", id="unpacked"),
        pytest.param("scales", None, "scales: must be ..4, 6, 8.*got None", id="no-scales"),
        pytest.param("scales", torch.ones(4, 6, 8), "float8_e4m3fn", id="scales-dtype"),
        pytest.param("tensor_scale", torch.ones(5), "tensor_scale: must be ..4,", id="experts-disagree"),
        pytest.param("shape", (4, 6, 120), "K must be a positive multiple of 16 .*K = 120", id="K-not-of-blocks"),
        pytest.param("shape", (128,), "at least 2 axes", id="vector"),
        pytest.param("format", "nvfp5", "weight format 'nvfp5': unknown", id="format"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part, value, message):
    q = make("nvfp4")
    parts = {n: getattr(q, n) for n in ("format", "method", "shape", "codes", "scales", "tensor_scale")}
    with pytest.raises(FormatError, match=message):
        QuantizedTensor(**{**parts, part: value})


def experts_of(format: str) -> RowExperts:
    return RowExperts(*(quantize_weight(torch.ones(shape), format) for shape in ((4, 2 * 64, 128), (4, 128, 64))))


@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_experts_of_a_layer_know_their_sizes_and_name_every_tensor(format):
    experts = experts_of(format)
    assert (experts.layout, experts.num_experts, experts.hidden, experts.intermediate) == ("rows", 4, 128, 64)
    assert sum(tensor.nbytes for tensor in experts.tensors().values()) == sum(experts.nbytes().values())
    assert list(experts.tensors())[0] == "gate_up.codes" and "down.codes" in experts.tensors()
    moved = experts.to("cpu")
    assert torch.equal(dequantize(moved.gate_up), dequantize(experts.gate_up))
    assert torch.equal(dequantize(moved.down), dequantize(experts.down))


def test_experts_that_do_not_fit_together_are_refused():
    nvfp4, mxfp4 = experts_of("nvfp4"), experts_of("mxfp4")
    with pytest.raises(FormatError, match=r"RowExperts.gate_up: must be nvfp4 \(4, 256, 64\)"):
        RowExperts(nvfp4.gate_up, dataclasses.replace(nvfp4.down, shape=(4, 64, 128), **transposed(nvfp4.down)))
    with pytest.raises(FormatError, match="must be mxfp4"):
        RowExperts(nvfp4.gate_up, mxfp4.down)


def transposed(q: QuantizedTensor) -> dict:
    other = quantize_weight(torch.ones(q.shape[0], q.shape[2], q.shape[1]), q.format)
    return {"codes": other.codes, "scales": other.scales}
