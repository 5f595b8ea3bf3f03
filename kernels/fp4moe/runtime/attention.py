"""Causal attention in three situations: whole sequences, a prompt into the cache, one new token a request.

In: rotated queries and keys, values, float32. Out: attention output [N, H, d]. PyTorch's
scaled_dot_product_attention does the work; here are the layouts, the cache and the mask. An object is made
once a step and called once a layer.

Shapes: N tokens = B * T, H heads, G key-value heads (H / G queries share one), d head_dim, C longest context
in the batch, in whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe.runtime.kv_cache import KVCache, whole_blocks


@dataclass(frozen=True, slots=True)
class WholeSequences:
    """B sequences of T tokens, no cache; used by `score`."""

    batch: int

    def __call__(self, layer: int, queries_NHd: Tensor, keys_NGd: Tensor, values_NGd: Tensor) -> Tensor:
        q, k, v = (x.unflatten(0, (self.batch, -1)).transpose(1, 2) for x in (queries_NHd, keys_NGd, values_NGd))
        return _causal(q, k, v).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class PromptIntoCache:
    """One prompt, written to a slot and attended to as stored."""

    cache: KVCache
    slot: int

    def __call__(self, layer: int, queries_NHd: Tensor, keys_NGd: Tensor, values_NGd: Tensor) -> Tensor:
        keys_GTd, values_GTd = self.cache.write_prompt(layer, self.slot, keys_NGd, values_NGd)
        out = _causal(queries_NHd.transpose(0, 1).unsqueeze(0), keys_GTd.unsqueeze(0), values_GTd.unsqueeze(0))
        return out.squeeze(0).transpose(0, 1)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """One token of each of B requests against its own slot; shorter contexts are masked.

    The H / G queries that share a key-value head are laid out as query positions, so that keys need no
    copying.
    """

    cache: KVCache
    slots_B: Tensor
    positions_B: Tensor
    mask_B11C: Tensor

    @classmethod
    def of(cls, cache: KVCache, slots_B: Tensor, positions_B: Tensor) -> NewTokens:
        """`positions_B`: where each new token stands, which is how many tokens its slot holds."""
        context = torch.arange(whole_blocks(int(positions_B.max()) + 1), device=positions_B.device)
        return cls(cache, slots_B, positions_B, (context <= positions_B.unsqueeze(-1))[:, None, None, :])

    def __call__(self, layer: int, queries_NHd: Tensor, keys_NGd: Tensor, values_NGd: Tensor) -> Tensor:
        self.cache.append(layer, self.slots_B, self.positions_B, (keys_NGd, values_NGd))
        keys_BGCd, values_BGCd = self.cache.read(layer, self.slots_B, self.mask_B11C.shape[-1])
        grouped = queries_NHd.unflatten(1, (keys_NGd.shape[1], -1))
        out = F.scaled_dot_product_attention(grouped, keys_BGCd, values_BGCd, attn_mask=self.mask_B11C)
        return out.flatten(1, 2)


def _causal(q_BHTd: Tensor, k_BGTd: Tensor, v_BGTd: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHTd, k_BGTd, v_BGTd, is_causal=True, enable_gqa=True)
