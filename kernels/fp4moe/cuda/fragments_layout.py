"""Offline layout of FP4 experts for moe_sm90.cu: the order in which lanes read them.

In: `QuantizedTensor` [E, 2F, D] (gate rows, then up rows) and [E, D, F] in NVFP4 or MXFP4. Out: one byte tensor each and the
scales of an expert times 2^8. The size does not change: 4.5 or 4.25 bits a weight.

A chunk is 16 rows x 128 k, one warp's: 1024 bytes of codes, then 128 (NVFP4) or 64 (MXFP4) of scales. In it lane = 4 g + t
holds rows g and g + 8 and k = 32 t .. 32 t + 31:

    codes   [half][lane][step]     one 32-bit word: k = 32 t + 16 half + 4 step + 2 pair + odd of both rows
    scales  NVFP4 [lane][half][row g, row g + 8]  E5M3 codes;   MXFP4 [lane][row g, row g + 8]  exponents, 245 for the largest

The tensor core multiplies position 64 half + 16 step + 8 pair + 2 t + odd of a chunk: that is the order of the activations.
Rows of a gate/up chunk are 8 gate rows and their 8 up rows, at positions 8 i .. 8 i + 7, so that h comes out in that order too.
Rows g and g + 8 of a down chunk are rows 2 g and 2 g + 1 of its 16, neighbours in y.
Four chunks (64 rows) lie together, then the next k.

A word holds four pairs (pair, row) = (0, g), (0, g + 8), (1, g), (1, g + 8); `dequantize` in fp4_fragments.cuh takes them out
with one mask for three of them and two for the last. Codes of a block whose scale is 0 are stored as 0.
Shapes: E experts, F intermediate, D hidden, T row tiles of 16, C chunks along k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor
from fp4moe.pack import unpack_nibbles

CHUNK_K = 128
FORMATS = ("nvfp4", "mxfp4")
_FOLD = 2.0**8  # what the bit moves leave over
_TOP_EXPONENT = 245  # BF16 exponent field of 2^118
_BIAS_E8M0 = 127


def pack_gate_up(w: QuantizedTensor) -> Tensor:
    """[E, 2F, D] -> uint8 [E, 2F / 64, C, 4 * chunk bytes]."""
    _check(w)
    intermediate = w.shape[1] // 2
    columns = torch.arange(intermediate, device=w.device).reshape(-1, 4, 2, 4, 2, 2)  # block, t, half, step, pair, odd
    columns = columns.permute(0, 2, 3, 4, 1, 5).reshape(-1, 1, 8)
    order = torch.cat([columns, intermediate + columns], dim=1).flatten()
    return torch.stack([_expert(w[expert], order) for expert in range(w.shape[0])])


def pack_down(w: QuantizedTensor) -> Tensor:
    """[E, D, F] -> uint8 [E, D / 64, C, 4 * chunk bytes]."""
    _check(w)
    order = torch.arange(w.shape[1], device=w.device).reshape(-1, 8, 2).transpose(1, 2).flatten()
    return torch.stack([_expert(w[expert], order) for expert in range(w.shape[0])])


def folded_scales(w: QuantizedTensor, parts: int) -> Tensor:
    """float32 [E, parts]: what an expert's products are multiplied by; parts = 2 for gate and up, 1 for down."""
    experts, rows, _ = w.shape
    if w.format == "mxfp4":
        exponents = torch.stack([_largest_exponent(w[expert]) for expert in range(experts)])
        return (torch.exp2((exponents - _BIAS_E8M0).float()) * _FOLD)[:, None].expand(-1, parts).contiguous()
    if not w.has_row_tensor_scales:
        return (w.tensor_scale.float() * _FOLD)[:, None].expand(-1, parts).contiguous()
    by_part = w.tensor_scale.reshape(experts, parts, rows // parts)
    if not bool((by_part == by_part[..., :1]).all()):
        raise FormatError("fragments: needs one tensor scale for gate and one for up (got different ones within a matrix)")
    return (by_part[..., 0] * _FOLD).contiguous()


def _check(w: QuantizedTensor) -> None:
    _, rows, k = w.shape
    if w.format not in FORMATS or k % CHUNK_K or rows % CHUNK_K:
        raise FormatError(
            f"fragments: needs {' or '.join(FORMATS)} [E, N, K] with N and K multiples of {CHUNK_K} "
            f"(got {w.format} {tuple(w.shape)}); use triton-grouped or the reference"
        )


def _expert(w: QuantizedTensor, row_order: Tensor) -> Tensor:
    """uint8 [T / 4, C, 4 * chunk bytes] with the rows taken in `row_order`."""
    rows, k = w.shape
    codes = unpack_nibbles(w.codes[row_order]).reshape(rows, k // 16, 16)
    scales, is_zero = _scale_codes(w, row_order)
    codes = torch.where(is_zero[..., None], 0, codes)
    # rows = (T, high, g); k = (C, t, half, step, pair, odd)
    nibbles = codes.reshape(rows // 16, 2, 8, k // CHUNK_K, 4, 2, 4, 2, 2)
    words = _words(nibbles.permute(0, 3, 5, 2, 4, 6, 7, 1, 8))  # [T, C, half, g, t, step]
    flat_words = words.reshape(*words.shape[:2], -1).view(torch.uint8)
    chunks_TC = torch.cat([flat_words, scales], dim=-1)
    return chunks_TC.unflatten(0, (-1, 4)).transpose(1, 2).flatten(2).contiguous()


def _scale_codes(w: QuantizedTensor, row_order: Tensor) -> tuple[Tensor, Tensor]:
    """(bytes [T, C, 128 or 64] as the lanes read them, whether a block of 16 is zero [N, K / 16])."""
    rows, k = w.shape
    if w.format == "nvfp4":
        codes = e4m3_to_e5m3(w.scales[row_order].view(torch.uint8))
        by_lane = codes.reshape(rows // 16, 2, 8, k // CHUNK_K, 4, 2).permute(0, 3, 2, 4, 5, 1)
        return by_lane.reshape(rows // 16, k // CHUNK_K, -1), codes == 0
    codes = w.scales[row_order].to(torch.int32) - _largest_exponent(w) + _TOP_EXPONENT
    is_zero = (codes < 1).repeat_interleave(2, dim=-1)
    by_lane = codes.clamp(min=1).to(torch.uint8).reshape(rows // 16, 2, 8, k // CHUNK_K, 4).permute(0, 3, 2, 4, 1)
    return by_lane.reshape(rows // 16, k // CHUNK_K, -1), is_zero


def _largest_exponent(w: QuantizedTensor) -> Tensor:
    largest = w.scales.max().to(torch.int32)
    if int(largest) == 255:
        raise FormatError("fragments: an MXFP4 scale is NaN (code 255); the checkpoint is damaged")
    return largest


def _words(nibbles: Tensor) -> Tensor:
    """[..., pair, high, odd] 4-bit codes -> int32 [...], as `dequantize` in fp4_fragments.cuh takes them apart."""
    n = nibbles.to(torch.int32).flatten(-3, -2)  # [..., 4, odd]
    sign, magnitude = n >> 3, n & 7
    halves = (sign[..., 0, :] << 15) | (magnitude[..., 0, :] << 6)
    halves |= (sign[..., 1, :] << 9) | magnitude[..., 1, :]
    halves |= (sign[..., 2, :].flip(-1) << 5) | (magnitude[..., 2, :] << 12)
    halves |= (sign[..., 3, :] << 11) | ((magnitude[..., 3, :] >> 1) << 3) | ((magnitude[..., 3, :] & 1) << 10)
    return halves[..., 0] | (halves[..., 1] << 16)


def e4m3_to_e5m3(bits: Tensor) -> Tensor:
    """E4M3 scale bits (positive) -> E5M3 code ((floor(log2 s) + 9) << 3 | mantissa); 0 for the zero scale."""
    value = bits.view(torch.float8_e4m3fn).float()
    mantissa, exponent = torch.frexp(value)
    code = ((exponent - 1 + 9) << 3) | ((mantissa * 2 - 1) * 8).to(torch.int32)
    return torch.where(value == 0, 0, code).to(torch.uint8)
