"""The token-slots in order of expert, each expert's padded to whole tiles: how a grouped product finds its rows.

In: expert ids [T, K]. Out: `SlotTiles`: for each row of each tile the slot it works on, for each tile its expert. Everything
stays on the device; the grid of a product is the most tiles there can be, and tiles past the end say expert -1. Stable: an
expert's slots keep their order. No atomics, one kernel, a program an expert: each counts all slots (its rows begin after the
tiles of the experts before it), then places its own.

Shapes: S = T * K slots, E experts. Example, tile 2, ids = [1, 0, 1, 1]: slot_of_row = [1, 4, 0, 2, 3, 4],
expert_of_tile = [0, 1, 1]; 4 = S marks a row without a slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_SLOTS_A_STEP = 1024
_TILES_A_STEP = tl.constexpr(128)


@dataclass(frozen=True, slots=True)
class SlotTiles:
    """slot_of_row int32 [tiles * tile_rows], S where there is none; expert_of_tile int32 [tiles], -1 past the end.

    Rows of tiles past the end are not written.
    """

    slot_of_row: Tensor
    expert_of_tile: Tensor
    tile_rows: int


@triton.jit
def sort_kernel(
    ids_ptr, slot_of_row_ptr, expert_of_tile_ptr, num_slots, max_tiles,
    NUM_EXPERTS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_S: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    mine = tl.program_id(0)
    expert = tl.arange(0, BLOCK_E)
    counts = tl.zeros((BLOCK_E,), tl.int32)
    for first in range(0, num_slots, BLOCK_S):
        slot = first + tl.arange(0, BLOCK_S)
        ids = tl.load(ids_ptr + slot, mask=slot < num_slots, other=0).to(tl.int32)
        counts += tl.histogram(ids, BLOCK_E, mask=slot < num_slots)
    tiles = (counts + TILE - 1) // TILE
    first_tile = tl.sum(tl.where(expert < mine, tiles, 0))
    num_tiles = tl.sum(tl.where(expert == mine, tiles, 0))
    count = tl.sum(tl.where(expert == mine, counts, 0))

    # The last expert also says that the tiles after its own belong to none.
    end_tile = tl.where(mine == NUM_EXPERTS - 1, max_tiles, first_tile + num_tiles)
    for first in range(first_tile, end_tile, _TILES_A_STEP):
        tile = first + tl.arange(0, _TILES_A_STEP)
        tl.store(expert_of_tile_ptr + tile, tl.where(tile < first_tile + num_tiles, mine, -1), mask=tile < end_tile)
    row = first_tile * TILE + count + tl.arange(0, TILE)
    tl.store(slot_of_row_ptr + row, num_slots + tl.zeros((TILE,), tl.int32), mask=row < (first_tile + num_tiles) * TILE)

    placed = first_tile * TILE
    for first in range(0, num_slots, BLOCK_S):
        slot = first + tl.arange(0, BLOCK_S)
        is_mine = (tl.load(ids_ptr + slot, mask=slot < num_slots, other=-1).to(tl.int32) == mine).to(tl.int32)
        tl.store(slot_of_row_ptr + placed + tl.cumsum(is_mine) - 1, slot, mask=is_mine != 0)
        placed += tl.sum(is_mine)


def most_tiles(num_slots: int, num_experts: int, tile_rows: int) -> int:
    """Tiles of the worst routing: every expert one slot, then a further tile for every `tile_rows` slots."""
    return min(num_slots, num_experts) + max(0, num_slots - num_experts) // tile_rows


def sort_slots(ids_TK: Tensor, num_experts: int, tile_rows: int) -> SlotTiles:
    """The tiles of a routing; ids int32 or int64, tile_rows a power of two. Launches on the current device."""
    ids_TK = ids_TK.contiguous()
    num_slots = ids_TK.numel()
    max_tiles = most_tiles(num_slots, num_experts, tile_rows)
    slot_of_row = torch.empty(max_tiles * tile_rows, dtype=torch.int32, device=ids_TK.device)
    expert_of_tile = torch.empty(max_tiles, dtype=torch.int32, device=ids_TK.device)
    block_s = min(_SLOTS_A_STEP, max(32, triton.next_power_of_2(num_slots)))
    sort_kernel[(num_experts,)](
        ids_TK, slot_of_row, expert_of_tile, num_slots, max_tiles, NUM_EXPERTS=num_experts,
        BLOCK_E=max(2, triton.next_power_of_2(num_experts)), BLOCK_S=block_s, TILE=tile_rows, num_warps=4,
    )  # fmt: skip
    return SlotTiles(slot_of_row, expert_of_tile, tile_rows)
