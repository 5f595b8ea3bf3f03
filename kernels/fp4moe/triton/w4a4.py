"""The W4A4 experts: NVFP4 x NVFP4 or MXFP4 x MXFP4 on the FP4 tensor cores of SM100 and SM120.

    route -> [ quantize x | sort slots -> gate/up product + SiLU -> quantize h -> down product x router weight -> sum ]

In: x [T, D] float32 or bfloat16, experts packed by `pack`, a routing. Out: y [T, D] in x's dtype. The intermediate h and the
router-weighted rows before the last sum are kept in x's dtype (shares of a split reduction in float32). A token with NaN or
inf gives NaN in its row of y. Six launches, no host synchronization, memory from torch's allocator only, so that CUDA graphs
can capture it. Reads only ids_TK and weights_TK of the routing. Needs D and F that 128 divides; see w4a4_layout.py. What was
proven without a GPU of these families, and what not: w4a4_kernels.py.

Shapes: T tokens, K experts a token, S = T * K slots, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import weight_format
from fp4moe.triton.w4a4_kernels import combine_kernel, grouped_kernel
from fp4moe.triton.w4a4_layout import TILE, W4A4Experts, W4A4Matrices, pack
from fp4moe.triton.w4a4_quantize import QuantizedRows, quantize_rows
from fp4moe.triton.w4a4_slots import Tiles, tile_slots

if TYPE_CHECKING:
    from fp4moe.reference import Routing

__all__ = ["combine", "down", "experts", "gate_up", "pack"]

NATIVE, TWIN = "native", "twin"
# Slots a tile may hold -> (warps, stages of the load pipeline). A stage is 9 KB of weights and 72 bytes a slot; two
# programs then fit on an SM of SM120 (99 KB of shared memory for a block). Chosen by that alone, never measured.
LAUNCH_SHAPES = {16: (4, 4), 32: (4, 4), 64: (4, 4), 128: (8, 3)}
MAX_SHARES = 8
FEW_PROGRAMS = 512  # about three for each SM of an RTX 5090 or B200; below it the down product splits its reduction


def experts(x_TD: Tensor, packed: W4A4Experts, routing: Routing, activations: str, *, product: str | None = None) -> Tensor:
    """Both products of the MoE layer; `activations` is the weight's own format.

    product: "native" (FP4 tensor cores, the default) or "twin" (the same numbers in float32, for checking on other machines;
    the default in Triton's interpreter). Raises FormatError where x or `activations` do not fit `packed`.
    """
    _check(x_TD, packed, activations)
    num_tokens, top_k = routing.ids_TK.shape
    if num_tokens == 0:
        return torch.empty_like(x_TD)
    product = product or default_product()
    tiles = tile_slots(routing.ids_TK, packed.num_experts, slots_of_a_tile(num_tokens * top_k, packed.num_experts))
    h_SF = gate_up(quantize_rows(x_TD, packed.format), packed, tiles, top_k, dtype=x_TD.dtype, product=product)
    parts = down(quantize_rows(h_SF, packed.format), packed, tiles, routing.weights_TK, dtype=x_TD.dtype, product=product)
    return combine(parts, top_k, x_TD.dtype)


def gate_up(x: QuantizedRows, packed: W4A4Experts, tiles: Tiles, top_k: int, *, dtype: torch.dtype, product: str) -> Tensor:
    """x of T rows -> h_SF = silu(gate x) * (up x), rows in slot order."""
    h_SF = torch.empty((len(tiles.order_S), packed.intermediate), dtype=dtype, device=x.codes.device)
    grid = (tiles.count, packed.intermediate // (TILE // 2), 1)
    _launch(grid, packed.gate_up, x, tiles, packed.format, out=h_SF, slot_weight=None, rows_share=top_k, product=product)
    return h_SF


def down(
    h: QuantizedRows, packed: W4A4Experts, tiles: Tiles, weights_TK: Tensor, *, dtype: torch.dtype, product: str
) -> Tensor:
    """h of S rows -> [S, shares, D], the router weight applied; one share in `dtype`, several (few tokens) in float32."""
    row_tiles = packed.hidden // TILE
    shares = shares_of(packed.intermediate // TILE, tiles.count * row_tiles)
    dtype = dtype if shares == 1 else torch.float32
    parts = torch.empty((len(tiles.order_S), shares, packed.hidden), dtype=dtype, device=h.codes.device)
    grid = (tiles.count, row_tiles, shares)
    weights = weights_TK.float().contiguous()
    _launch(grid, packed.down, h, tiles, packed.format, out=parts, slot_weight=weights, rows_share=1, product=product)
    return parts


def combine(parts: Tensor, top_k: int, dtype: torch.dtype) -> Tensor:
    """[S, shares, D] -> y_TD: the sum over the K slots of a token and their shares, in float32 and a fixed order."""
    num_slots, shares, hidden = parts.shape
    y_TD = torch.empty((num_slots // top_k, hidden), dtype=dtype, device=parts.device)
    columns = min(1024, triton.next_power_of_2(hidden))
    grid = (num_slots // top_k, triton.cdiv(hidden, columns))
    combine_kernel[grid](parts, y_TD, hidden, TERMS=top_k * shares, COLUMNS=columns)
    return y_TD


def slots_of_a_tile(num_slots: int, num_experts: int) -> int:
    """The smallest tile that holds an expert's mean number of slots, or the largest there is."""
    return next((size for size in LAUNCH_SHAPES if size * num_experts >= num_slots), max(LAUNCH_SHAPES))


def shares_of(num_chunks: int, num_programs: int) -> int:
    """Parts of a reduction of `num_chunks`, all equal, so that few programs become more; 1 where there are enough."""
    wanted = max(1, min(MAX_SHARES, FEW_PROGRAMS // num_programs))
    return next(shares for shares in range(wanted, 0, -1) if num_chunks % shares == 0)


def default_product() -> str:
    """The twin where Triton interprets, since the interpreter has no block-scaled product."""
    return TWIN if os.environ.get("TRITON_INTERPRET") == "1" else NATIVE


def _launch(
    grid: tuple[int, int, int],
    w: W4A4Matrices,
    x: QuantizedRows,
    tiles: Tiles,
    format: str,
    *,
    out: Tensor,
    slot_weight: Tensor | None,
    rows_share: int,
    product: str,
) -> None:
    warps, stages = LAUNCH_SHAPES[tiles.tokens]
    num_chunks = w.codes.shape[2]
    grouped_kernel[grid](
        w.codes, w.scales.view(torch.int32), w.row_scale, x.codes, x.scales.view(torch.int32), x.row_scale,
        tiles.order_S, tiles.table, slot_weight, out, w.row_scale.shape[1],
        CHUNKS=num_chunks, CHUNKS_OF_SHARE=num_chunks // grid[2], TOP_K=rows_share, GATED=slot_weight is None,
        BLOCK=weight_format(format).block_k, TOKENS=tiles.tokens, NATIVE=product == NATIVE, num_warps=warps, num_stages=stages,
    )  # fmt: skip


def _check(x_TD: Tensor, packed: W4A4Experts, activations: str) -> None:
    if activations != packed.format:
        raise FormatError(
            f"{packed.layout}: activations must be {packed.format}, the weights' own format (got {activations}); "
            "use triton-grouped or the reference for other pairs"
        )
    if x_TD.dtype not in (torch.float32, torch.bfloat16) or x_TD.shape[1:] != (packed.hidden,):
        raise FormatError(
            f"{packed.layout}: x must be float32 or bfloat16 [T, {packed.hidden}] (got {x_TD.dtype} {list(x_TD.shape)})"
        )
