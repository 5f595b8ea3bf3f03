"""Activations to NVFP4 or MXFP4 on the device, bit for bit what quantize/activations.py defines.

In: x [R, K], float32 or bfloat16, K a multiple of the block. Out: packed codes, block scales, one float32 scale a row. Two
passes over a row: its largest magnitude, then its blocks. All divisions are IEEE (`div_rn`); E4M3 is rounded by integer
arithmetic and E2M1 by seven comparisons, so no conversion instruction of a certain GPU is needed. A row with NaN or inf, which
the definition refuses, gets the row scale NaN here and codes of zero: a product with it is NaN, and the host is never asked.
One difference on a GPU: torch divides by a constant there as a multiplication by its reciprocal, so the definition run on a
GPU may differ in a scale's last bit from itself on a CPU; this kernel is the CPU's.

Shapes: R rows, K columns, G = K // BLOCK blocks a row.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.formats import weight_format
from fp4moe.layouts import check_block
from fp4moe.triton.w4a4_dot import scale_values

ONE_E4M3, ONE_E8M0 = tl.constexpr(0x38), tl.constexpr(127)  # codes of 1.0, the scale of a block of zeros
LARGEST_CHUNK = 16384  # columns a program holds at once: 32 float32 registers a thread of 16 warps


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """codes uint8 [R, K / 2], scales uint8 [R, G] (E4M3 or E8M0 bits), row_scale float32 [R] (MXFP4: 1, or NaN)."""

    codes: Tensor
    scales: Tensor
    row_scale: Tensor


def quantize_rows(x_RK: Tensor, format: str) -> QuantizedRows:
    """`x` [R, K] in "nvfp4" or "mxfp4"; FormatError where K is not a multiple of the block."""
    fmt = weight_format(format)
    num_rows, num_columns = x_RK.shape
    check_block(num_columns, fmt, "activation")
    x_RK = x_RK.contiguous()
    codes = x_RK.new_empty((num_rows, num_columns // 2), dtype=torch.uint8)
    scales = x_RK.new_empty((num_rows, num_columns // fmt.block_k), dtype=torch.uint8)
    row_scale = x_RK.new_empty(num_rows, dtype=torch.float32)
    chunk = min(triton.next_power_of_2(num_columns), LARGEST_CHUNK)
    warps = max(1, chunk // 1024)
    if num_rows:
        quantize_kernel[(num_rows,)](
            x_RK, codes, scales, row_scale, COLUMNS=num_columns, CHUNK=chunk, BLOCK=fmt.block_k, num_warps=warps
        )  # fmt: skip
    return QuantizedRows(codes, scales, row_scale)


@triton.jit
def _load(x, row, first, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    columns = first + tl.arange(0, CHUNK)
    return tl.load(x + row.to(tl.int64) * COLUMNS + columns, mask=columns < COLUMNS, other=0.0).to(tl.float32)


@triton.jit
def e4m3_code(value):
    """Nearest-even E4M3 code of float32 numbers held between 2^-9 and 448; subnormals (below 2^-6) by adding 1.5 * 2^23."""
    value = tl.minimum(tl.maximum(value, 0.001953125), 448.0)
    bits = value.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    subnormal = (value * 512.0 + 12582912.0).to(tl.int32, bitcast=True) & 15
    return tl.where(value < 0.015625, subnormal, normal)


@triton.jit
def e2m1_code(value, scale):
    """Code of float32 numbers over their scale, 6 above 6; a tie goes up only where the code above is even.

    The definition compares the rounded quotient with t = 0.25 ... 5; comparing the number with t * scale is the same and needs
    no division. t * scale is exact (scale has at most 4 significant bits), and a float32 number beside it is at least half a
    unit in the last place of t away from it after the division, since the mantissa of t * scale is below 2.
    """
    m = tl.abs(value)
    code = (m > 0.25 * scale).to(tl.int32) + (m >= 0.75 * scale).to(tl.int32) + (m > 1.25 * scale).to(tl.int32)
    code += (m >= 1.75 * scale).to(tl.int32) + (m > 2.5 * scale).to(tl.int32) + (m >= 3.5 * scale).to(tl.int32)
    code += (m > 5.0 * scale).to(tl.int32)
    return code | ((value.to(tl.int32, bitcast=True) >> 28) & 8)


@triton.jit
def quantize_kernel(x, codes, scales, row_scales, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """One program a row."""
    row = tl.program_id(0)
    largest = tl.zeros((CHUNK,), tl.int32)  # bits of a magnitude order as integers do, NaN above inf above all others
    for first in range(0, COLUMNS, CHUNK):
        largest = tl.maximum(largest, _load(x, row, first, COLUMNS, CHUNK).to(tl.int32, bitcast=True) & 0x7FFFFFFF)
    amax_bits = tl.max(largest, axis=0)
    is_finite = amax_bits < 0x7F800000
    if BLOCK == 16:
        amax = tl.where(is_finite, amax_bits, 0).to(tl.float32, bitcast=True)
        scale = tl.maximum(tl.div_rn(amax, 2688.0), 1.1754943508222875e-38)
        row_scale = tl.where(amax_bits == 0, 1.0, tl.div_rn(1.0, tl.div_rn(1.0, scale)))
    else:
        row_scale = 1.0
    tl.store(row_scales + row, tl.where(is_finite, row_scale, float("nan")))
    for first in range(0, COLUMNS, CHUNK):
        values = tl.where(is_finite, _load(x, row, first, COLUMNS, CHUNK), 0.0).reshape(CHUNK // BLOCK, BLOCK)
        if BLOCK == 16:
            values = tl.div_rn(values, tl.broadcast_to(row_scale, values.shape))
            block_amax = tl.max(tl.abs(values), axis=1)
            scale_code = e4m3_code(tl.div_rn(block_amax, tl.full(block_amax.shape, 6.0, tl.float32)))
            scale_code = tl.where(block_amax == 0, ONE_E4M3, scale_code)
        else:
            exponent = tl.max(values.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=1)
            scale_code = tl.where(exponent == 0, ONE_E8M0, tl.maximum((exponent >> 23) - 2, 0))
        low, high = e2m1_code(values, scale_values(scale_code, BLOCK)[:, None]).reshape(CHUNK // 2, 2).split()
        pairs = first // 2 + tl.arange(0, CHUNK // 2)
        at = codes + row.to(tl.int64) * (COLUMNS // 2) + pairs
        tl.store(at, (low | (high << 4)).to(tl.uint8), mask=pairs < COLUMNS // 2)
        groups = first // BLOCK + tl.arange(0, CHUNK // BLOCK)
        at = scales + row.to(tl.int64) * (COLUMNS // BLOCK) + groups
        tl.store(at, scale_code.to(tl.uint8), mask=groups < COLUMNS // BLOCK)
