"""Offline layout of NVFP4 experts for nvfp4_decode_sm90.cu: the order in which lanes read them.

In: `QuantizedTensor` [E, 2F, D] (gate rows, then up rows) and [E, D, F] in NVFP4. Out: one byte tensor each and the tensor
scales times 2^8. The size does not change: 4.5 bits a weight; padding only where D is an odd multiple of 128.

A chunk is 16 rows x 128 k: 1024 bytes of codes, then 128 of scales. Rows of a gate/up chunk are 8 gate rows and their 8 up
rows. In a chunk, lane = 4 g + t holds rows g and g + 8 and, of each half of 64 k, the block t of 16:

    codes   [half][lane][step s]  one 32-bit word: k = 64 half + 16 t + 4 s + 0..3 of both rows
    scales  [lane][half][row g, row g + 8]  E5M3 codes

Codes of a block whose scale is 0 are stored as 0, since E5M3 as used here has no zero.
Shapes: E experts, F intermediate, D hidden, T row tiles, C chunks along k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor
from fp4moe.pack import unpack_nibbles

CHUNK_K = 128
CHUNKS_OF_SPLIT = 16


def pack_gate_up(w: QuantizedTensor) -> Tensor:
    """[E, 2F, D] -> uint8 [E, F / 8, ceil(C / 2), 2 x 1152]: two chunks along k a warp; the last is zero if C is odd."""
    _check(w)
    return torch.stack([_gate_up_of_expert(w[expert]) for expert in range(w.shape[0])])


def pack_down(w: QuantizedTensor) -> Tensor:
    """[E, D, F] -> uint8 [E, bytes]: by k split of 16 chunks, pair of row tiles, row tile, chunk; C made even with zeros."""
    _check(w)
    return torch.stack([_down_of_expert(w[expert]) for expert in range(w.shape[0])])


def folded_tensor_scale(w: QuantizedTensor) -> Tensor:
    """float32 [E]: the tensor scale times the 2^8 that the bit moves leave over."""
    return (w.tensor_scale.float() * 2.0**8).contiguous()


def _check(w: QuantizedTensor) -> None:
    experts, rows, k = w.shape
    if w.format != "nvfp4" or k % CHUNK_K or rows % 32:
        raise FormatError(
            f"nvfp4 decode layout: needs nvfp4 [E, N, K] with K % {CHUNK_K} == 0 and N % 32 == 0 "
            f"(got {w.format} {tuple(w.shape)}); use the reference implementation"
        )
    if w.tensor_scale.shape != (experts,):
        raise FormatError(
            "nvfp4 decode layout: needs one tensor scale an expert, shared by gate and up "
            f"(got tensor scales {tuple(w.tensor_scale.shape)}); use the reference implementation"
        )


def _gate_up_of_expert(w: QuantizedTensor) -> Tensor:
    rows, k = w.shape
    order = torch.arange(rows, device=w.codes.device).reshape(2, rows // 16, 8).transpose(0, 1).reshape(-1)
    chunks_TC = _even(_chunks(w, order))
    return chunks_TC.reshape(rows // 16, -1, 2 * chunks_TC.shape[-1])


def _down_of_expert(w: QuantizedTensor) -> Tensor:
    chunks_TC = _even(_chunks(w, torch.arange(w.shape[0], device=w.codes.device)))
    # [pair, split of 16 chunks, row tile of the pair, stage, two chunks], split by split since the last may be short
    pairs = chunks_TC.unflatten(0, (-1, 2))
    return torch.cat([part.reshape(-1) for part in pairs.split(CHUNKS_OF_SPLIT, dim=2)])


def _even(chunks_TC: Tensor) -> Tensor:
    """A zero chunk at the end if their number is odd: a warp takes two at a time."""
    return torch.nn.functional.pad(chunks_TC, (0, 0, 0, 1)) if chunks_TC.shape[1] % 2 else chunks_TC


def _chunks(w: QuantizedTensor, row_order: Tensor) -> Tensor:
    """uint8 [T, C, 1152] with the rows taken in `row_order`."""
    rows, k = w.shape
    scale_codes = e4m3_to_e5m3(w.scales[row_order].view(torch.uint8))
    codes = unpack_nibbles(w.codes[row_order]).reshape(rows, k // 16, 16)
    codes = torch.where((scale_codes == 0)[..., None], 0, codes)
    # rows = (T, high, g); k = (C, half, t, s, pair, odd)
    nibbles = codes.reshape(rows // 16, 2, 8, k // CHUNK_K, 2, 4, 4, 2, 2)
    words = _words(nibbles.permute(0, 3, 4, 2, 5, 6, 7, 1, 8))  # [T, C, half, g, t, s]
    scales = scale_codes.reshape(rows // 16, 2, 8, k // CHUNK_K, 2, 4).permute(0, 3, 2, 5, 4, 1)  # [T, C, g, t, half, high]
    flat_words = words.reshape(*words.shape[:2], -1).view(torch.uint8)
    return torch.cat([flat_words, scales.reshape(*scales.shape[:2], -1)], dim=-1)


def _words(nibbles: Tensor) -> Tensor:
    """[..., pair, high, odd] 4-bit codes -> int32 [...]: pairs 0..3 are (pair, row) = (0, g), (0, g+8), (1, g), (1, g+8)."""
    n = nibbles.to(torch.int64).flatten(-3, -2)  # [..., 4, odd]
    sign, magnitude = n >> 3, n & 7
    halves = (sign[..., 0, :] << 15) | (magnitude[..., 0, :] << 6)
    halves |= (sign[..., 1, :] << 12) | (magnitude[..., 1, :] << 3)
    halves |= (sign[..., 2, :] << 9) | magnitude[..., 2, :]
    halves |= (sign[..., 3, :] << 14) | ((magnitude[..., 3, :] >> 1) << 10) | ((magnitude[..., 3, :] & 1) << 13)
    return (halves[..., 0] | (halves[..., 1] << 16)).to(torch.int32)


def e4m3_to_e5m3(bits: Tensor) -> Tensor:
    """E4M3 scale bits (positive) -> E5M3 code ((floor(log2 s) + 9) << 3 | mantissa); 0 for the zero scale."""
    value = bits.view(torch.float8_e4m3fn).float()
    mantissa, exponent = torch.frexp(value)
    code = ((exponent - 1 + 9) << 3) | ((mantissa * 2 - 1) * 8).to(torch.int32)
    return torch.where(value == 0, 0, code).to(torch.uint8)
