"""The fragments layout: following the kernel's own bit moves and indices gives back exactly the dequantized weights."""

import numpy as np
import pytest
import torch

from fp4moe.cuda.fragments_layout import CHUNK_K, e4m3_to_e5m3, folded_scales, pack_down, pack_gate_up
from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import dequantize, quantize_weight

MASK = np.uint32(0x81C081C0)
CHUNK_BYTES = {"nvfp4": 1152, "mxfp4": 1088}


def bf16_halves(words: np.ndarray) -> np.ndarray:
    """uint32 [...] -> float64 [..., 2]: the low and the high BF16."""
    bits = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1).astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).astype(np.float64)


def fragment(words: np.ndarray) -> np.ndarray:
    """The kernel's dequantize() without scales: uint32 [...] -> float64 [..., 4 pairs, 2]."""
    rotated = (words >> np.uint32(6)) | (words << np.uint32(26))
    last = ((words << np.uint32(4)) & np.uint32(0x81808180)) | ((words >> np.uint32(4)) & np.uint32(0x00400040))
    return bf16_halves(np.stack([words & MASK, (words << np.uint32(6)) & MASK, rotated & MASK, last], axis=-1))


def scale_values(chunk: np.ndarray, name: str) -> np.ndarray:
    """float64 [g, t, half, high], scale * 2^118 as the kernel expands it."""
    if name == "nvfp4":
        codes = chunk[1024:].reshape(8, 4, 2, 2).astype(np.uint32)
        return bf16_halves(codes * np.uint32(16) + np.uint32(0x7600))[..., 0]
    codes = chunk[1024:].reshape(8, 4, 1, 2).astype(np.uint32).repeat(2, axis=2)
    return bf16_halves(codes << np.uint32(7))[..., 0]


def chunk_values(chunk: np.ndarray, name: str) -> np.ndarray:
    """float64 [16 rows, 128 positions] of value * scale * 2^8, in the order of the tensor core."""
    words = chunk[:1024].view(np.uint32).reshape(2, 8, 4, 4)  # half, g, t, step
    value = fragment(words).reshape(2, 8, 4, 4, 2, 2, 2)  # half, g, t, step, pair, high, odd
    scale = scale_values(chunk, name).transpose(2, 0, 1, 3)[:, :, :, None, None, :, None]
    product = value * scale * 2.0**8
    # -> high, g, half, step, pair, t, odd: a position is 64 half + 16 step + 8 pair + 2 t + odd
    return product.transpose(5, 1, 0, 3, 4, 2, 6).reshape(16, CHUNK_K)


def order_of_positions() -> np.ndarray:
    """[128]: the k (or column of h) at each position, from the formula in moe_sm90.cu."""
    half, step, pair, t, odd = np.meshgrid(*(np.arange(n) for n in (2, 4, 2, 4, 2)), indexing="ij")
    return (32 * t + 16 * half + 4 * step + 2 * pair + odd).reshape(-1)


def packed_values(packed: torch.Tensor, name: str, k: int) -> np.ndarray:
    """One expert's bytes [N / 64, C, 4 chunks] -> float64 [N, K] with k back in its natural order."""
    size = CHUNK_BYTES[name]
    blocks = packed.numpy().reshape(packed.shape[0], k // CHUNK_K, 4, size)
    out = np.zeros((packed.shape[0] * 64, k))
    for block, chunk, tile in np.ndindex(*blocks.shape[:3]):
        row = block * 64 + tile * 16
        values = chunk_values(blocks[block, chunk, tile].copy(), name)
        out[row : row + 16, chunk * CHUNK_K + order_of_positions()] = values
    return out.astype(np.float32)


def down_rows(packed: torch.Tensor, name: str, k: int) -> np.ndarray:
    """packed_values with rows back in order: rows g and g + 8 of a chunk are rows 2 g and 2 g + 1."""
    return packed_values(packed, name, k).reshape(-1, 2, 8, k).transpose(0, 2, 1, 3).reshape(-1, k)


def weights(name: str, num_experts: int, rows: int, k: int) -> QuantizedTensor:
    generator = torch.Generator().manual_seed(3)
    return quantize_weight(torch.randn(num_experts, rows, k, generator=generator) * 0.05, name)


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize(("rows", "k"), [pytest.param(128, 128, id="one-chunk"), pytest.param(256, 384, id="several")])
def test_down_is_exact(name, rows, k):
    q = weights(name, 2, rows, k)
    scales = folded_scales(q, parts=1).numpy() / np.float32(2.0**8)
    for expert, packed in enumerate(pack_down(q)):
        found = down_rows(packed, name, k) * scales[expert]  # float32, as dequantize multiplies
        assert (found == dequantize(q[expert]).numpy()).all()


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_gate_and_up_rows_lie_side_by_side_in_the_order_that_down_reads(name):
    q = weights(name, 2, 512, 256)
    scales = folded_scales(q, parts=2).numpy() / np.float32(2.0**8)
    column = np.concatenate([block * 128 + order_of_positions() for block in range(2)])
    for expert, packed in enumerate(pack_gate_up(q)):
        found = packed_values(packed, name, 256).reshape(-1, 2, 8, 256)
        gate, up = dequantize(q[expert]).numpy().reshape(2, 256, 256)
        assert (found[:, 0].reshape(256, 256) * scales[expert, 0] == gate[column]).all()
        assert (found[:, 1].reshape(256, 256) * scales[expert, 1] == up[column]).all()


def test_every_code_of_a_word_comes_back():
    codes = torch.arange(16, dtype=torch.uint8).repeat(128 * 128 // 16).reshape(1, 128, 128)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    scales = torch.ones(1, 128, 8).to(torch.float8_e4m3fn)
    q = QuantizedTensor("nvfp4", "absmax", (1, 128, 128), packed, scales, torch.ones(1))
    assert (down_rows(pack_down(q)[0], "nvfp4", 128) == dequantize(q[0]).numpy()).all()


def test_every_positive_e4m3_scale_survives():
    bits = torch.arange(1, 0x7F, dtype=torch.uint8)
    codes = e4m3_to_e5m3(bits).numpy().astype(np.uint32)
    decoded = bf16_halves(codes * np.uint32(16) + np.uint32(0x7600))[..., 0] * 2.0**-118
    assert (decoded == bits.view(torch.float8_e4m3fn).double().numpy()).all()


def test_different_scales_of_gate_and_up_are_kept():
    q = weights("nvfp4", 2, 256, 128)
    rows = torch.cat([q.tensor_scale[:, None].expand(-1, 128), 2 * q.tensor_scale[:, None].expand(-1, 128)], dim=1)
    both = QuantizedTensor("nvfp4", q.method, q.shape, q.codes, q.scales, rows.contiguous())
    assert torch.equal(folded_scales(both, parts=2), torch.stack([q.tensor_scale, 2 * q.tensor_scale], dim=1) * 2.0**8)


@pytest.mark.parametrize(
    ("name", "rows", "k"),
    [
        pytest.param("nvfp4", 128, 64, id="k-is-no-whole-chunk"),
        pytest.param("nvfp4", 64, 128, id="too-few-rows"),
        pytest.param("fp8", 128, 128, id="format"),
    ],
)
def test_what_does_not_fit_is_refused(name, rows, k):
    with pytest.raises(FormatError, match="fragments: needs nvfp4 or mxfp4"):
        pack_down(weights(name, 1, rows, k))


def test_a_nan_scale_is_refused():
    q = weights("mxfp4", 1, 128, 128)
    q.scales[0, 3, 1] = 255
    with pytest.raises(FormatError, match="NaN"):
        pack_down(q)
