"""Tile sizes of the grouped product, as data: by slots an expert gets on average, and by what the device has.

In: weight format, capability, average slots an expert. Out: `Tile`. Nothing is timed while running. Two kinds of device: with
227 KiB of shared memory a block and accumulators for tiles of 128 slots (wgmma of sm_90, tcgen05 of sm_100), and the others,
whose rows fit the 99 KiB of sm_86, sm_89 and sm_120. Tests compile each row for each capability and check what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4moe.select.capability import Capability

_WGMMA_SHARED_MEMORY_BYTES = 200 * 1024


@dataclass(frozen=True, slots=True)
class Tile:
    """BLOCK_M slots by BLOCK_N rows of weights (of gate, and as many of up) by BLOCK_K.

    up_to_slots: most slots an expert, on average, that the row is meant for; None for any number. split_k: parts of the
    second product's reduction, so that few tokens still fill the device.
    """

    up_to_slots: int | None
    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    split_k: int


# FP4: a step is one permuted block of 128. A stage holds 4.5 bits a weight, so activations take most of the memory.
_FP4_WGMMA = (
    Tile(16, 16, 64, 128, 4, 4, 4),
    Tile(32, 32, 64, 128, 4, 4, 2),
    Tile(64, 64, 64, 128, 4, 3, 1),
    Tile(None, 128, 64, 128, 8, 3, 1),
)
_FP4_MMA = (
    Tile(16, 16, 64, 128, 4, 4, 4),
    Tile(32, 32, 64, 128, 8, 3, 2),
    Tile(None, 64, 32, 128, 4, 3, 1),
)
_FP8_WGMMA = (
    Tile(16, 16, 64, 128, 4, 4, 4),
    Tile(64, 64, 64, 128, 4, 4, 1),
    Tile(None, 128, 64, 128, 8, 4, 1),
)
_FP8_MMA = (
    Tile(16, 16, 64, 128, 4, 3, 4),
    Tile(None, 64, 64, 128, 8, 3, 1),
)
_BF16_WGMMA = (
    Tile(16, 16, 64, 64, 4, 4, 4),
    Tile(64, 64, 64, 64, 4, 4, 1),
    Tile(None, 128, 64, 64, 4, 4, 1),
)
_BF16_MMA = (
    Tile(16, 16, 64, 64, 4, 4, 4),
    Tile(None, 64, 64, 64, 4, 3, 1),
)
_TABLE = {
    "nvfp4": (_FP4_MMA, _FP4_WGMMA),
    "mxfp4": (_FP4_MMA, _FP4_WGMMA),
    "fp8": (_FP8_MMA, _FP8_WGMMA),
    "bf16": (_BF16_MMA, _BF16_WGMMA),
}


def tiles(weights: str, capability: Capability) -> tuple[Tile, ...]:
    """Every row for a format on a device, fewest slots first; a device that is not known, and the CPU, get the small ones."""
    small, large = _TABLE[weights]
    return large if (capability.shared_memory_bytes or 0) >= _WGMMA_SHARED_MEMORY_BYTES else small


def tile_for(weights: str, capability: Capability, slots_an_expert: float) -> Tile:
    """The row for this many slots an expert."""
    rows = tiles(weights, capability)
    return next(row for row in rows if row.up_to_slots is None or slots_an_expert <= row.up_to_slots)
