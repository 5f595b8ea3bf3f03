"""The NVFP4 decode layout: following the kernel's own bit moves and indices gives back exactly the dequantized weights."""

import numpy as np
import pytest
import torch

from fp4moe.cuda.nvfp4_layout import CHUNK_K, CHUNKS_OF_SPLIT, e4m3_to_e5m3, folded_tensor_scale, pack_down, pack_gate_up
from fp4moe.errors import FormatError
from fp4moe.quantize import dequantize, quantize_weight

MASK = np.uint32(0x81C081C0)


def bf16_halves(words: np.ndarray) -> np.ndarray:
    """uint32 [...] -> float64 [..., 2]: the low and the high BF16."""
    bits = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1).astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).astype(np.float64)


def fragment(words: np.ndarray) -> np.ndarray:
    """The kernel's dequantize() without scales: uint32 [...] -> float64 [..., 4 pairs, 2]."""
    q3 = (
        ((words >> 3) & np.uint32(0x01800180)) | ((words << 1) & np.uint32(0x80008000)) | ((words >> 7) & np.uint32(0x00400040))
    )
    pairs = np.stack([words & MASK, (words << 3) & MASK, (words << 6) & MASK, q3], axis=-1)
    return bf16_halves(pairs)


def chunk_values(chunk: np.ndarray) -> np.ndarray:
    """1152 bytes -> float64 [16 rows, 128 k] of value * scale, as the lanes see them."""
    words = chunk[:1024].view(np.uint32).reshape(2, 8, 4, 4)  # half, g, t, step
    codes = chunk[1024:].reshape(8, 4, 2, 2).astype(np.uint32)  # g, t, half, high
    scale = bf16_halves(codes * np.uint32(0x00100010) + np.uint32(0x76007600))[..., 0]
    value = fragment(words).reshape(2, 8, 4, 4, 2, 2, 2)  # half, g, t, step, pair, high, odd
    product = value * scale.transpose(2, 0, 1, 3)[:, :, :, None, None, :, None] * 2.0**8
    # -> high, g, half, t, step, pair, odd
    return product.transpose(5, 1, 0, 2, 3, 4, 6).reshape(16, CHUNK_K)


def expert_weights(num_experts: int, rows: int, k: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return quantize_weight(torch.randn(num_experts, rows, k, generator=generator) * 0.05, "nvfp4")


def stored_values(q, expert: int) -> np.ndarray:
    """Dequantized weights without the tensor scale: exact products of code and block scale."""
    plain = dequantize(q[expert], torch.float64) / q.tensor_scale[expert].double()
    return plain.numpy()


def test_every_positive_e4m3_scale_survives():
    bits = torch.arange(1, 0x7F, dtype=torch.uint8)
    codes = e4m3_to_e5m3(bits).numpy().astype(np.uint32)
    decoded = bf16_halves(codes * np.uint32(0x00100010) + np.uint32(0x76007600))[..., 0] * 2.0**-118
    assert (decoded == bits.view(torch.float8_e4m3fn).double().numpy()).all()


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        pytest.param(32, 128, id="one-chunk-padded-to-two"),
        pytest.param(64, 256, id="two-chunks"),
        pytest.param(32, 640, id="odd-number-of-chunks"),
    ],
)
def test_gate_up(rows, k):
    q = expert_weights(2, rows, k)
    packed = pack_gate_up(q).numpy()
    assert packed.shape == (2, rows // 16, -(-k // 256), 2304)
    for expert in range(2):
        chunks = packed[expert].reshape(rows // 16, -1, 1152)[:, : k // CHUNK_K]
        tiles = [np.concatenate([chunk_values(chunk) for chunk in tile], axis=1) for tile in chunks]
        gate, up = np.concatenate([tile[:8] for tile in tiles]), np.concatenate([tile[8:] for tile in tiles])
        np.testing.assert_allclose(np.concatenate([gate, up]), stored_values(q, expert), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        pytest.param(32, 128, id="one-pair-one-chunk"),
        pytest.param(64, 128 * CHUNKS_OF_SPLIT, id="one-whole-split"),
        pytest.param(64, 128 * (CHUNKS_OF_SPLIT + 3), id="last-split-is-short"),
    ],
)
def test_down(rows, k):
    q = expert_weights(2, rows, k)
    packed = pack_down(q).numpy()
    num_chunks = k // CHUNK_K
    for expert in range(2):
        at, out = 0, np.zeros((rows, k + CHUNK_K))
        for first in range(0, num_chunks, CHUNKS_OF_SPLIT):
            chunks = min(CHUNKS_OF_SPLIT, num_chunks + num_chunks % 2 - first)
            for tile in range(rows // 16):
                for chunk in range(first, first + chunks):
                    piece = chunk_values(packed[expert, at : at + 1152])
                    out[tile * 16 : tile * 16 + 16, chunk * CHUNK_K : (chunk + 1) * CHUNK_K] = piece
                    at += 1152
        assert at == packed.shape[1]
        np.testing.assert_allclose(out[:, :k], stored_values(q, expert), rtol=1e-6, atol=0)


def test_zero_blocks_stay_zero():
    w = torch.randn(1, 32, 128) * 0.05
    w[0, 3, 16:32] = 0
    q = quantize_weight(w, "nvfp4")
    q.scales.view(torch.uint8)[0, 3, 1] = 0  # a checkpoint of others may hold scale 0 with any codes
    q.codes[0, 3, 8:16] = 0x77
    chunk = pack_down(q).numpy()[0]
    assert (chunk_values(chunk[:1152])[3, 16:32] == 0).all()


def test_tensor_scale_carries_the_power_of_two():
    q = expert_weights(3, 32, 128)
    assert torch.equal(folded_tensor_scale(q), q.tensor_scale * 256)


def test_other_formats_and_shapes_are_refused():
    with pytest.raises(FormatError, match="needs nvfp4"):
        pack_down(quantize_weight(torch.randn(1, 32, 128), "mxfp4"))
    with pytest.raises(FormatError, match="K % 128"):
        pack_down(quantize_weight(torch.randn(1, 32, 64), "nvfp4"))
