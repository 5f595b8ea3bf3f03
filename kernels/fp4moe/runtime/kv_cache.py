"""Keys and values of running requests, one slot a request.

In: keys (already rotated) and values of new tokens, float32. Out: what is stored, back in float32. Numbers
are rounded to the cache's dtype when written and read back rounded even within the same prefill, so that
prefill and decode see the same ones. A slot is contiguous and as long as the longest context; no paging, no
sharing of prefixes.

Shapes: L layers, S slots, G key-value heads, C context, d head_dim, T prompt tokens, B requests of a decode
step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.errors import EngineError
from fp4moe.runtime.config import MixtralConfig

# Decoding reads whole blocks of positions, masked: at a length that is a multiple of any vector width, sums
# over a context have the same order whatever the longest context of the batch.
CONTEXT_BLOCK = 64
KV_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def kv_cache_shape(config: MixtralConfig, max_slots: int, max_context: int) -> tuple[int, ...]:
    """[L, 2, S, G, C, d], C rounded up to whole blocks; index 0 of the second axis holds keys, 1 values."""
    context = whole_blocks(max_context)
    return (config.num_layers, 2, max_slots, config.num_kv_heads, context, config.head_dim)


def whole_blocks(num_positions: int) -> int:
    """`num_positions` rounded up to a multiple of CONTEXT_BLOCK."""
    return -(-num_positions // CONTEXT_BLOCK) * CONTEXT_BLOCK


def kv_torch_dtype(kv_dtype: str) -> torch.dtype:
    """The storage dtype; EngineError for a name that is not one."""
    if kv_dtype not in KV_DTYPES:
        raise EngineError(f"kv_dtype: must be one of {', '.join(KV_DTYPES)} (got {kv_dtype!r})")
    return KV_DTYPES[kv_dtype]


class KVCache:
    """Slotted storage. Starts as zeros: masked positions are multiplied by 0 and must be finite."""

    def __init__(self, config: MixtralConfig, *, max_slots: int, max_context: int, kv_dtype: str, device) -> None:
        shape = kv_cache_shape(config, max_slots, max_context)
        self._data = torch.zeros(shape, dtype=kv_torch_dtype(kv_dtype), device=device)

    @property
    def nbytes(self) -> int:
        """Bytes held, whether slots are in use or not."""
        return self._data.nbytes

    def write_prompt(self, layer: int, slot: int, keys_TGd: Tensor, values_TGd: Tensor) -> tuple[Tensor, Tensor]:
        """Fill a slot from position 0; returns keys and values [G, T, d] as stored, float32."""
        length = keys_TGd.shape[0]
        stored = self._data[layer, :, slot, :, :length]
        stored[0], stored[1] = keys_TGd.transpose(0, 1), values_TGd.transpose(0, 1)
        return stored[0].float(), stored[1].float()

    def append(self, layer: int, slots_B: Tensor, positions_B: Tensor, kv_2BGd: tuple[Tensor, Tensor]) -> None:
        """Write one token of each request at its own position."""
        for part, new_BGd in zip(self._data[layer], kv_2BGd, strict=True):
            part[slots_B, :, positions_B] = new_BGd.to(part.dtype)

    def read(self, layer: int, slots_B: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, length, d] of these slots, float32."""
        keys, values = self._data[layer, :, :, :, :length]
        return keys[slots_B].float(), values[slots_B].float()
