"""Offline layout of FP4 and FP8 experts for moe_e4m3_sm90.cu, and the FP8 weights that FP4 ones stand for.

In: `QuantizedTensor` [E, 2F, D] (gate rows, then up rows) and [E, D, F] in NVFP4, MXFP4 or FP8. Out: one byte tensor each,
4.5, 4.25 or 8 bits a weight as before, and float32 scales of rows; or, from `as_fp8`, the same weights as a QuantizedTensor
in FP8: that is exactly what the kernel multiplies, so FP8 x FP8 on it is the kernel's arithmetic.

An FP4 weight becomes E4M3(value * block scale / row scale), to nearest even; the row scale (times 2^n, what the format's own
float32 scale is) puts the largest block scale of the row where 6 times it just fits E4M3. At the other end, blocks whose
scale is then below 2^-5, some 2^-11 of the row's largest, are first rounded to E2M1 at 2^-5: every product is a normal number.

A chunk is 16 rows x 128 k, one warp's: 1024 bytes of codes, then 128 (NVFP4) or 64 (MXFP4) of scales. In it lane = 4 g + t
holds rows g and g + 8 and k = 32 t .. 32 t + 31:

    codes   [quarter][lane][step][row g, row g + 8]   a 32-bit word: k = 32 t + 16 quarter + 8 step + 0..7, magnitudes in the
            low three bits of the nibbles; sign of code i < 4 in bit 8 i + 7, of code 4 + i in bit 8 i + 3
    scales  NVFP4 [lane][quarter][row g, g + 8];   MXFP4 [lane][row g, g + 8]: E4M3 bits, at least 16

The tensor core's k of a chunk: 64 quarter + 32 step + 16 (i / 4) + 4 t + i % 4. Eight chunks, 128 rows, lie together, then
the next k. FP8 takes 16 groups of 8 rows instead, as `_swizzled` says. Row g of a gate/up chunk is a gate, row g + 8 its up;
of a down chunk they are neighbors 2 g and 2 g + 1.
Shapes: E experts, F intermediate, D hidden, N rows, K reduction, T row tiles of 16, C chunks along k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import decode_table
from fp4moe.layouts import QuantizedTensor
from fp4moe.pack import unpack_nibbles
from fp4moe.quantize.e2m1 import encode_e2m1

CHUNK_K = BLOCK_ROWS = 128
MAX_K = 32768  # what one block of threads rounds at once
FORMATS = ("nvfp4", "mxfp4", "fp8")
LOWEST_BITS, HIGHEST_BITS = 16, 105  # E4M3 of a stored scale: half of it is a normal number, 6 times it is finite
_BIAS_E8M0, _BIAS_E4M3 = 127, 7
_ZERO_BITS = -1024  # of a scale of zero: far below every other


def gate_up_order(intermediate: int) -> Tensor:
    """int64 [2F]: the stored row at each packed place."""
    gate = torch.arange(intermediate).reshape(-1, 1, 8)
    return torch.cat([gate, intermediate + gate], dim=1).flatten()


def down_order(hidden: int) -> Tensor:
    """int64 [D]: the stored row at each packed place."""
    return torch.arange(hidden).reshape(-1, 8, 2).transpose(1, 2).flatten()


def pack_weight(w: QuantizedTensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """[E, N, K] -> (uint8 [E, N / 128, C, 8 * chunk bytes], float32 scales of rows [E, N]), rows taken in `order`."""
    check_weight(w)
    order = order.to(w.device)
    packed, scales = zip(*(_pack_expert(w[expert], order) for expert in range(w.shape[0])), strict=True)
    return torch.stack(packed), torch.stack(scales)


def as_fp8(w: QuantizedTensor) -> QuantizedTensor:
    """[E, N, K] in FP8 with a scale a row: the weights that the kernel multiplies, in the order in which they came."""
    check_weight(w)
    if w.format == "fp8":
        return w
    values, scales = [], []
    for expert in range(w.shape[0]):
        codes, bits_NB, row_scale_N = _parts(w[expert])
        magnitude = decode_table("e2m1").to(w.device)[codes.int()].reshape(*bits_NB.shape, -1)
        scaled = magnitude * bits_NB.view(torch.float8_e4m3fn).float().unsqueeze(-1)  # exact: two bits times four
        values.append(scaled.to(torch.float8_e4m3fn).reshape(codes.shape))
        scales.append(row_scale_N.unsqueeze(-1))
    return QuantizedTensor("fp8", "absmax", w.shape, torch.stack(values), torch.stack(scales))


def check_weight(w: QuantizedTensor) -> None:
    """FormatError where the kernel cannot take format or shape."""
    _, rows, k = w.shape
    if w.format not in FORMATS or k % CHUNK_K or rows % BLOCK_ROWS or k > MAX_K:
        raise FormatError(
            f"e4m3: needs {' or '.join(FORMATS)} [E, N, K], N and K multiples of {CHUNK_K}, K at most {MAX_K} "
            f"(got {w.format} {tuple(w.shape)}); use triton-grouped or the reference"
        )


def _pack_expert(w: QuantizedTensor, order: Tensor) -> tuple[Tensor, Tensor]:
    if w.format == "fp8":
        return _swizzled(w.codes.view(torch.uint8)[order]), w.scales[order, 0]
    codes, bits_NB, row_scale_N = _parts(w)
    (rows, k), per_scale = codes.shape, codes.shape[-1] // bits_NB.shape[-1]
    # rows = (T, high, g); k = (C, t, quarter, step, i)
    words = _words(codes[order].reshape(rows // 16, 2, 8, k // CHUNK_K, 4, 2, 2, 8))
    words = words.permute(0, 3, 5, 2, 4, 6, 1).contiguous()  # [T, C, quarter, g, t, step, high]
    flat_words = words.reshape(*words.shape[:2], -1).view(torch.uint8)
    scales = bits_NB[order].reshape(rows // 16, 2, 8, k // CHUNK_K, 4, 32 // per_scale)
    flat_scales = scales.permute(0, 3, 2, 4, 5, 1).reshape(*words.shape[:2], -1)
    chunks_TC = torch.cat([flat_words, flat_scales], dim=-1)
    return chunks_TC.unflatten(0, (-1, 8)).transpose(1, 2).flatten(2).contiguous(), row_scale_N[order]


def _swizzled(bytes_NK: Tensor) -> Tensor:
    """uint8 [N / 128, C, 16384]: 16 bytes at place c of a row hold k = 32 t + 4 c + 0..3, and lie at c ^ (row % 8)."""
    rows, k = bytes_NK.shape
    places = bytes_NK.reshape(rows // 128, 16, 8, k // CHUNK_K, 4, 8, 4)
    places = places.permute(0, 3, 1, 2, 5, 4, 6)  # [N / 128, C, group, row, c, t, i]
    row, place = torch.meshgrid(*(torch.arange(8, device=bytes_NK.device),) * 2, indexing="ij")
    return places.flatten(-2)[..., row, row ^ place, :].flatten(2).contiguous()


def _words(codes: Tensor) -> Tensor:
    """uint8 codes [..., 8] -> int32 [...], see the module docstring."""
    codes, place = codes.to(torch.int32), torch.arange(8, device=codes.device)
    sign_bit = torch.where(place < 4, 8 * place + 7, 8 * (place - 4) + 3)
    return (((codes & 7) << (4 * place)) | ((codes >> 3) << sign_bit)).sum(-1, dtype=torch.int32)


def _parts(w: QuantizedTensor) -> tuple[Tensor, Tensor, Tensor]:
    """(codes [N, K], E4M3 bits of the scales [N, B], float32 scales of rows [N]) of one expert."""
    codes = unpack_nibbles(w.codes)
    bits_NB, scale_N = (_nvfp4_bits if w.format == "nvfp4" else _mxfp4_bits)(w)
    largest_N = bits_NB.amax(-1)
    up_N = torch.where(largest_N == _ZERO_BITS, 0, (HIGHEST_BITS - largest_N).div(8, rounding_mode="floor"))
    bits_NB, scale_N = bits_NB + 8 * up_N.unsqueeze(-1), torch.ldexp(scale_N, -up_N)
    is_low = bits_NB < LOWEST_BITS
    if bool(is_low.any()):
        codes = _at_floor(codes.reshape(*bits_NB.shape, -1), bits_NB, is_low).reshape(codes.shape)
    return codes, bits_NB.clamp(min=LOWEST_BITS).to(torch.uint8), scale_N


def _nvfp4_bits(w: QuantizedTensor) -> tuple[Tensor, Tensor]:
    """int32 [N, B]: E4M3 bits of the scales, 8 an exponent, going on where E4M3 ends; float32 [N]."""
    mantissa, exponent = torch.frexp(w.scales.float())
    bits = (exponent - 1 + _BIAS_E4M3) * 8 + ((mantissa * 2 - 1) * 8).to(torch.int32)
    return torch.where(mantissa == 0, _ZERO_BITS, bits), w.tensor_scale.float().expand(w.shape[0])


def _mxfp4_bits(w: QuantizedTensor) -> tuple[Tensor, Tensor]:
    if bool((w.scales == 255).any()):
        raise FormatError("e4m3: an MXFP4 scale is NaN (code 255); the checkpoint is damaged")
    return (w.scales.to(torch.int32) - _BIAS_E8M0 + _BIAS_E4M3) * 8, torch.ones(w.shape[0], device=w.device)


def _at_floor(codes: Tensor, bits: Tensor, is_low: Tensor) -> Tensor:
    """Codes of blocks whose scale is below the floor, rounded to E2M1 at the floor."""
    values = decode_table("e2m1").to(codes.device)[codes[is_low].int()]
    below = bits[is_low].unsqueeze(-1)
    factor = torch.exp2(((below >> 3) - (LOWEST_BITS >> 3)).float()) * (1 + (below & 7).float() / 8)
    codes = codes.clone()
    codes[is_low] = encode_e2m1(values * factor)
    return codes
