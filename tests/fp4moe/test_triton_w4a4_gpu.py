"""The W4A4 layer on a GPU: the twin everywhere, the native product where the tensor cores or Triton's emulation have it."""

import pytest
import torch

from fp4moe.quantize import dequantize, quantize_activation, quantize_weight, round_activation
from fp4moe.reference import route
from fp4moe.triton import w4a4
from fp4moe.triton.w4a4_quantize import quantize_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
EXPERTS, HIDDEN, INTERMEDIATE, TOP_K = 8, 512, 1024, 2
FORMATS = ["nvfp4", "mxfp4"]
# K products summed in float32 in another order, test_gemm.py's bound; the tensor cores' adder may keep fewer bits below the
# largest term of a step, so the bound is taken at 2^-21 instead of 2^-23.
TOLERANCE = INTERMEDIATE**1.5 * 2.0**-21


def native_runs(format: str) -> bool:
    major, minor = torch.cuda.get_device_capability()
    return major == 10 or (major, minor) == (12, 0) or (major == 9 and format == "mxfp4")


def layer(num_tokens: int, format: str):
    generator = torch.Generator().manual_seed(num_tokens)
    gate_up = 0.1 * torch.randn(EXPERTS, 2 * INTERMEDIATE, HIDDEN, generator=generator)
    down = 0.1 * torch.randn(EXPERTS, HIDDEN, INTERMEDIATE, generator=generator)
    gate_up, down = (quantize_weight(w.cuda(), format, "absmax") for w in (gate_up, down))
    x_TD = torch.randn(num_tokens, HIDDEN, generator=generator).cuda()
    return x_TD, gate_up, down, route(torch.randn(num_tokens, EXPERTS, generator=generator).cuda(), TOP_K)


def right_rows(rows, w, routing):
    """[S, N] in float64: row s times the matrix of its slot's expert."""
    w_ENK, ids_S = dequantize(w).double(), routing.ids_TK.flatten()
    out = torch.empty(len(rows), w.shape[1], dtype=torch.float64, device=rows.device)
    for expert in range(EXPERTS):
        out[ids_S == expert] = rows[ids_S == expert].double() @ w_ENK[expert].T
    return out


@pytest.mark.parametrize("num_tokens", [1, 7, 40, 200, 900])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("product", [w4a4.TWIN, w4a4.NATIVE])
def test_stages(product, format, num_tokens):
    if product == w4a4.NATIVE and not native_runs(format):
        pytest.skip(f"this GPU has no block-scaled product for {format}")
    x_TD, gate_up, down, routing = layer(num_tokens, format)
    packed, options = w4a4.pack(gate_up, down), {"dtype": torch.float32, "product": product}
    tiles = w4a4.tile_slots(routing.ids_TK, EXPERTS, w4a4.slots_of_a_tile(num_tokens * TOP_K, EXPERTS))
    h_SF = w4a4.gate_up(quantize_rows(x_TD, format), packed, tiles, TOP_K, **options)
    parts = w4a4.down(quantize_rows(h_SF, format), packed, tiles, routing.weights_TK, **options)
    # The definition on the CPU: on a GPU torch divides by a constant by multiplying with its reciprocal.
    x_SD = round_activation(x_TD.cpu(), format).cuda().repeat_interleave(TOP_K, dim=0)
    gate, up = right_rows(x_SD, gate_up, routing).chunk(2, dim=1)
    h_right = gate * torch.sigmoid(gate) * up
    assert (h_SF - h_right).abs().max() <= TOLERANCE * h_right.abs().max()
    rows = right_rows(round_activation(h_SF.cpu(), format).cuda(), down, routing)
    y_right = (rows.unflatten(0, routing.ids_TK.shape) * routing.weights_TK.double().unsqueeze(-1)).sum(1)
    y_TD = w4a4.combine(parts, TOP_K, torch.float32)
    assert (y_TD - y_right).abs().max() <= TOLERANCE * y_right.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("format", FORMATS)
def test_quantizer_is_the_definition(format, dtype):
    x = torch.randn(300, 4096, generator=torch.Generator().manual_seed(0)) * torch.logspace(-40, 30, 300).unsqueeze(-1)
    x = x.to(dtype)
    found, right = quantize_rows(x.cuda(), format), quantize_activation(x, format)
    assert torch.equal(found.codes.cpu(), right.codes)
    assert torch.equal(found.scales.cpu(), right.scales.view(torch.uint8))
    if right.tensor_scale is not None:
        assert torch.equal(found.row_scale.cpu(), right.tensor_scale)


@pytest.mark.parametrize("format", FORMATS)
def test_a_cuda_graph_replays_other_routings_with_the_same_bits(format):
    x_TD, gate_up, down, routing = layer(48, format)
    packed = w4a4.pack(gate_up, down)
    other = layer(48, format)[0].flip(0), route(torch.randn(48, EXPERTS).cuda() + torch.tensor([9.0] + [0.0] * 7).cuda(), TOP_K)
    expected = [w4a4.experts(x, packed, r, format, product=w4a4.TWIN) for x, r in ((x_TD, routing), other)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y_TD = w4a4.experts(x_TD, packed, routing, format, product=w4a4.TWIN)
    graph.replay()
    assert torch.equal(y_TD, expected[0])
    x_TD.copy_(other[0])
    routing.ids_TK.copy_(other[1].ids_TK)
    routing.weights_TK.copy_(other[1].weights_TK)
    graph.replay()
    assert torch.equal(y_TD, expected[1])
