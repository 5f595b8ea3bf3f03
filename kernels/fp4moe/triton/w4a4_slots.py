"""Token-slots sorted by expert and cut into tiles, on the device in one launch.

In: the experts of each token, int32 or int64 [T, K], all in 0..E-1. Out: `Tiles`, whose shapes depend on T, K and E alone, so
that nothing waits for the device and the launch can be part of a CUDA graph. One program an expert counts all slots, so it
knows where its own begin, and writes them in slot order (a stable sort). An expert without slots has no tile; unused tiles
come last and carry the expert -1.

Shapes: T tokens, K experts a token, S = T * K slots (slot s belongs to token s // K), E experts.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_COMPARISON = 4096  # (slots of a chunk) x (experts) that one step compares


@dataclass(frozen=True, slots=True)
class Tiles:
    """order int32 [S]: slots sorted by expert. table int32 [3, tiles]: expert or -1, first and last place in the order."""

    order_S: Tensor
    table: Tensor
    tokens: int

    @property
    def count(self) -> int:
        """Tiles that are launched: the most that any routing of S slots can need."""
        return self.table.shape[1]


def tile_slots(ids_TK: Tensor, num_experts: int, tokens: int) -> Tiles:
    """Tiles of at most `tokens` slots, each of one expert. An expert wastes less than one tile, hence their number."""
    ids_S = ids_TK.reshape(-1).contiguous()
    num_slots = ids_S.numel()
    num_tiles = num_slots // tokens + min(num_experts, num_slots)
    order_S = torch.empty(num_slots, dtype=torch.int32, device=ids_S.device)
    table = torch.empty((3, num_tiles), dtype=torch.int32, device=ids_S.device)
    experts = triton.next_power_of_2(num_experts)
    chunk = min(triton.next_power_of_2(num_slots), max(16, LARGEST_COMPARISON // experts))
    slots_kernel[(num_experts,)](ids_S, order_S, table, num_slots, num_tiles, EXPERTS=experts, CHUNK=chunk, TOKENS=tokens)
    return Tiles(order_S, table, tokens)


@triton.jit
def _load_ids(ids, first, num_slots, CHUNK: tl.constexpr):
    slots = first + tl.arange(0, CHUNK)
    return slots, tl.load(ids + slots, mask=slots < num_slots, other=-1).to(tl.int32)


@triton.jit
def slots_kernel(ids, order, table, num_slots, num_tiles, EXPERTS: tl.constexpr, CHUNK: tl.constexpr, TOKENS: tl.constexpr):
    """One program an expert; EXPERTS is their number rounded up to a power of two. `while`: the bounds are not constants."""
    expert = tl.program_id(0)
    experts = tl.arange(0, EXPERTS)
    counts = tl.zeros((EXPERTS,), tl.int32)
    first = 0
    while first < num_slots:
        slots, found = _load_ids(ids, first, num_slots, CHUNK)
        first += CHUNK
        counts += tl.sum((found[:, None] == experts[None, :]).to(tl.int32), axis=0)
    tiles = (counts + TOKENS - 1) // TOKENS
    start = tl.sum(tl.where(experts < expert, counts, 0), axis=0)
    count = tl.sum(tl.where(experts == expert, counts, 0), axis=0)
    first_tile = tl.sum(tl.where(experts < expert, tiles, 0), axis=0)

    place = start
    first = 0
    while first < num_slots:
        slots, found = _load_ids(ids, first, num_slots, CHUNK)
        first += CHUNK
        is_mine = (found == expert).to(tl.int32)
        tl.store(order + place + tl.cumsum(is_mine, axis=0) - 1, slots, mask=is_mine != 0)
        place += tl.sum(is_mine, axis=0)

    first = 0
    while first * TOKENS < count:
        tile = first + tl.arange(0, 128)
        first += 128
        is_used = tile * TOKENS < count
        tl.store(table + first_tile + tile, expert, mask=is_used)
        tl.store(table + num_tiles + first_tile + tile, start + tile * TOKENS, mask=is_used)
        tl.store(table + 2 * num_tiles + first_tile + tile, start + tl.minimum((tile + 1) * TOKENS, count) - 1, mask=is_used)
    if expert == tl.num_programs(0) - 1:
        unused = tl.sum(tiles, axis=0)
        while unused < num_tiles:
            tile = unused + tl.arange(0, 128)
            unused += 128
            tl.store(table + tile, -1, mask=tile < num_tiles)
