"""One launch of the grouped product: operands as the kernel wants them, and its options as data.

In: rounded rows, a stored weight, the slots' tiles. Out: h [S, width], or the parts [P, S, N] that combine.py adds up.
Weights are read where they lie: codes as int32 words, block scales as bytes (views, no copy). `kernel_options` has no
tensor in it, so aot.py compiles exactly what is launched.

Shapes: S slots, N output columns, K reduction, P parts of the reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor
from fp4moe.triton.gemm import grouped_gemm_kernel
from fp4moe.triton.rows import padded_width
from fp4moe.triton.sort import SlotTiles
from fp4moe.triton.tiles import Tile

FP4 = ("nvfp4", "mxfp4")
_GROUP_M = 8  # tiles of rows whose programs follow each other


@dataclass(frozen=True, slots=True)
class Rows:
    """Left operand: values [R, width], scales [R] or empty; slot s reads row s // slots_a_row."""

    values: Tensor
    scales: Tensor
    slots_a_row: int


def kernel_options(weights: str, activations: str, tile: Tile, *, is_gated: bool, is_even_k: bool) -> dict:
    """Constants and launch options of grouped_gemm_kernel."""
    return {
        "FORMAT": weights,
        "GATED": is_gated,
        "HAS_TOKEN_SCALE": activations == "fp8",
        "PERMUTE_OUT": is_gated and weights in FP4,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_K": tile.block_k,
        "GROUP_M": _GROUP_M,
        "SPLIT_K": 1 if is_gated else tile.split_k,
        "EVEN_K": is_even_k,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def gated_product(x: Rows, gate_up: QuantizedTensor, tiles: SlotTiles, activations: str, tile: Tile) -> Tensor:
    """h = silu(gate) * up [S, width]: BF16, or float32 where a rounding to FP8 follows; permuted for FP4 weights."""
    num_columns = gate_up.shape[-2] // 2
    num_slots = x.values.shape[0] * x.slots_a_row
    dtype = torch.bfloat16 if activations == "bf16" else torch.float32
    h = torch.empty(num_slots, padded_width(num_columns), dtype=dtype, device=x.values.device)
    _launch(x, gate_up, tiles, h, None, num_columns, activations, tile)
    return h


def weighted_product(
    h: Rows, down: QuantizedTensor, tiles: SlotTiles, router_S: Tensor, *, activations: str, tile: Tile
) -> Tensor:
    """float32 [P, S, N]: the slots' products times their router weights."""
    num_slots, num_columns = router_S.numel(), down.shape[-2]
    parts = torch.empty(tile.split_k, num_slots, num_columns, dtype=torch.float32, device=h.values.device)
    _launch(h, down, tiles, parts, router_S, num_columns, activations, tile)
    return parts


def _launch(
    x: Rows, w: QuantizedTensor, tiles: SlotTiles, out: Tensor, router_S: Tensor | None, num_columns: int,
    activations: str, tile: Tile,
) -> None:  # fmt: skip
    is_gated = router_S is None
    codes, scales = _operands(w)
    factor, expert_stride, row_stride = _row_factor(w)
    k_size, width = w.shape[-1], out.shape[-1]
    options = kernel_options(w.format, activations, tile, is_gated=is_gated, is_even_k=k_size % tile.block_k == 0)
    max_tiles = tiles.expert_of_tile.numel()
    grid = (max_tiles * triton.cdiv(width, tile.block_n), options["SPLIT_K"])
    # An operand that this product lacks is never read: any tensor stands in for it.
    grouped_gemm_kernel[grid](
        x.values, x.scales, codes, codes if scales is None else scales, x.scales if factor is None else factor, out,
        tiles.slot_of_row, tiles.expert_of_tile, x.scales if is_gated else router_S,
        out.shape[-2], x.slots_a_row, num_columns, width, k_size, codes.shape[-1], 0 if scales is None else scales.shape[-1],
        x.values.shape[-1], max_tiles, expert_stride, row_stride,
        **options,
    )  # fmt: skip


def _operands(w: QuantizedTensor) -> tuple[Tensor, Tensor | None]:
    for name, part in (("codes", w.codes), ("scales", w.scales)):
        if part is not None and not part.is_contiguous():
            raise FormatError(f"triton experts: {w.format} {name} must be contiguous (got strides {part.stride()}); copy them")
    if w.format not in FP4:
        return w.codes, None
    return w.codes.view(torch.int32), w.scales.view(torch.uint8)


def _row_factor(w: QuantizedTensor) -> tuple[Tensor | None, int, int]:
    """What multiplies the sum of each weight row, with its strides along experts and rows."""
    num_rows = w.shape[-2]
    if w.format == "fp8":
        return w.scales, num_rows, 1
    if w.tensor_scale is None:
        return None, 0, 0
    scale = w.tensor_scale.contiguous()
    return (scale, num_rows, 1) if w.has_row_tensor_scales else (scale, 1, 0)
