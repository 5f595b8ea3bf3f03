"""Keys and values of the GPU engine: slots in rows of tokens, and one row more for lanes that only fill up a batch.

In: a configuration, slots, context. Out: storage BF16 [L, 2, S * C + 1, G, d]; a slot's tokens lie together, so a prompt's
prefix is a view that library attention takes as it is. Allocated once; nothing is paged, shared or moved. Nothing is read that
was not written: attention stops at a slot's position.

Shapes: L layers, S slots, C context, G key-value heads, d head_dim.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from fp4moe.runtime.config import MixtralConfig

_BF16_BYTES = 2


def shape_of(config: MixtralConfig, max_slots: int, max_context: int) -> tuple[int, ...]:
    """[L, 2, S * C + 1, G, d]."""
    return (config.num_layers, 2, max_slots * max_context + 1, config.num_kv_heads, config.head_dim)


def nbytes_of(config: MixtralConfig, max_slots: int, max_context: int) -> int:
    """Bytes that a cache will hold."""
    return prod(shape_of(config, max_slots, max_context)) * _BF16_BYTES


class SlotCache:
    """The storage and its views."""

    def __init__(self, config: MixtralConfig, *, max_slots: int, max_context: int, device: torch.device) -> None:
        self._data = torch.empty(shape_of(config, max_slots, max_context), dtype=torch.bfloat16, device=device)
        self.max_slots, self.max_context = max_slots, max_context

    @property
    def nbytes(self) -> int:
        """Bytes held, in use or not."""
        return self._data.nbytes

    @property
    def filler_slot(self) -> int:
        """The slot of lanes without a request; it has room for its position 0 only."""
        return self.max_slots

    @property
    def slot_stride(self) -> int:
        """Elements from one slot to the next."""
        return self.max_context * self._data.stride(2)

    def sides(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [S * C + 1, G, d] each."""
        return self._data[layer, 0], self._data[layer, 1]

    def prefix(self, layer: int, slot: int, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` tokens of a slot, [length, G, d] each; views."""
        rows = slice(slot * self.max_context, slot * self.max_context + length)
        keys, values = self.sides(layer)
        return keys[rows], values[rows]
