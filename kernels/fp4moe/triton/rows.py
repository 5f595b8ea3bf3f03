"""Rows of activations as a product reads them: rounded, padded with zeros to whole blocks of 128, permuted for FP4 weights.

In: x [R, K], float32 or BF16. Out: BF16 rows, or E4M3 values with one float32 scale a row (amax / 448, at least 2^-126, 1 for
a row of zeros), stored as E4M3 for E4M3 weights and as BF16, which holds them exactly, for FP4 weights. A row with NaN or
inf gets the scale NaN, so every output of that row is NaN. Permuted: see bits.py; `is_permuted` says that x already is.

Shapes: R rows, K columns; out [R, K rounded up to 128].
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import MAX_E4M3, PERMUTED_BLOCK, SMALLEST_SCALE, k_of_position, round_e4m3, to_bf16

_BLOCK = 1024


@triton.jit
def bf16_rows_kernel(x_ptr, out_ptr, num_columns, row_stride, width, PERMUTE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    position = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = k_of_position(position) if PERMUTE else position
    x = tl.load(x_ptr + row * row_stride + k, mask=k < num_columns, other=0.0)
    tl.store(out_ptr + row * width + position, to_bf16(x.to(tl.float32)), mask=position < width)


@triton.jit
def e4m3_rows_kernel(
    x_ptr, out_ptr, scale_ptr, num_columns, row_stride, width, PERMUTE: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * row_stride
    largest = tl.zeros((BLOCK,), tl.float32)
    num_wrong = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, num_columns, BLOCK):
        k = first + tl.arange(0, BLOCK)
        magnitude = tl.abs(tl.load(x_ptr + k, mask=k < num_columns, other=0.0).to(tl.float32))
        is_finite = magnitude < float("inf")  # also False for NaN
        num_wrong += tl.where(is_finite, 0, 1)
        largest = tl.maximum(largest, tl.where(is_finite, magnitude, 0.0))
    amax = tl.max(largest)
    is_right = tl.sum(num_wrong) == 0
    scale = tl.where(amax == 0, 1.0, tl.maximum(tl.div_rn(amax, MAX_E4M3), SMALLEST_SCALE))
    tl.store(scale_ptr + row, tl.where(is_right, scale, float("nan")))
    for first in range(0, width, BLOCK):
        position = first + tl.arange(0, BLOCK)
        k = k_of_position(position) if PERMUTE else position
        x = tl.load(x_ptr + k, mask=(k < num_columns) & is_right, other=0.0).to(tl.float32)
        x = tl.div_rn(x, tl.zeros((BLOCK,), tl.float32) + scale)
        x = round_e4m3(tl.minimum(tl.maximum(x, -MAX_E4M3), MAX_E4M3))
        tl.store(out_ptr + row * width + position, x.to(out_ptr.dtype.element_ty), mask=position < width)


def padded_width(num_columns: int) -> int:
    """`num_columns` rounded up to whole permuted blocks."""
    return triton.cdiv(num_columns, PERMUTED_BLOCK) * PERMUTED_BLOCK


def rounded_rows(x_RK: Tensor, activations: str, storage: torch.dtype, *, permute: bool) -> tuple[Tensor, Tensor]:
    """(rows [R, width] in `storage`, float32 scales [R]); for "bf16" activations the scales are empty and unused.

    storage: bfloat16 or, for "fp8" activations only, float8_e4m3fn. Launches on the current device.
    """
    x_RK = x_RK if x_RK.stride(-1) == 1 else x_RK.contiguous()
    num_rows, num_columns = x_RK.shape
    width = padded_width(num_columns)
    rows = torch.empty(num_rows, width, dtype=storage, device=x_RK.device)
    options = {"PERMUTE": permute, "BLOCK": _BLOCK, "num_warps": 4}
    if activations == "bf16":
        grid = (num_rows, triton.cdiv(width, _BLOCK))
        bf16_rows_kernel[grid](x_RK, rows, num_columns, x_RK.stride(0), width, **options)
        return rows, rows.new_empty(0, dtype=torch.float32)
    scales = torch.empty(num_rows, dtype=torch.float32, device=x_RK.device)
    e4m3_rows_kernel[(num_rows,)](x_RK, rows, scales, num_columns, x_RK.stride(0), width, **options)
    return rows, scales
