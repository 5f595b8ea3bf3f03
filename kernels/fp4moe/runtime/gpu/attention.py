"""Attention of the GPU engine: a packed batch of prompts, and one new token a request.

In: qkv of a layer, before rotation. Out: attention output [T, H d] in BF16, and the new keys and values in the cache. Prompts
go through a library's kernel (LIBRARIES, in order of preference), decoding through slot_attention.py, since no library on a
bare PyTorch host takes slots of different lengths with rotation and append in one launch (docs/decisions/0011).

Shapes: T tokens of a step, B requests, H heads, G key-value heads, d head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe import ranges
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.gpu.cache import SlotCache
from fp4moe.triton.decoder.rotary_store import rotary_store
from fp4moe.triton.decoder.slot_attention import Scratch, slot_attention

DECODE_KERNEL = "slot_attention (Triton, split over the context)"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one prompt in a step: tokens start .. start + count - 1 of the request in `slot`."""

    slot: int
    start: int
    count: int

    @property
    def end(self) -> int:
        """Tokens of the slot that this step's queries may see."""
        return self.start + self.count


@dataclass(frozen=True)
class PackedPrompts:
    """Stretches of prompts one after another. Without a cache the segments are whole sequences and nothing is stored."""

    config: MixtralConfig
    cos_sin: tuple[Tensor, Tensor]
    segments: Sequence[Segment]
    cache: SlotCache | None

    def __call__(self, layer: int, qkv_TN: Tensor, out_TN: Tensor) -> None:
        with ranges.range("attention", layer=layer):
            heads, kv_heads = self.config.num_heads, self.config.num_kv_heads
            sides = None if self.cache is None else self.cache.sides(layer)
            stride = 0 if self.cache is None else self.cache.slot_stride
            rotary_store(qkv_TN, self.cos_sin, self._positions_T, self._slots_T, sides, slot_stride=stride, heads=(heads, kv_heads))
            qkv_THd = qkv_TN.unflatten(-1, (heads + 2 * kv_heads, -1))
            queries, keys, values = qkv_THd.split([heads, kv_heads, kv_heads], dim=1)
            if self._has_prefixes:
                stored = [self.cache.prefix(layer, segment.slot, segment.end) for segment in self.segments]
                keys, values = (torch.cat(side) for side in zip(*stored, strict=True))
            library = LIBRARIES[library_for(qkv_TN.device, self.config.head_dim)]
            out_TN.copy_(library(queries, keys, values, self._lengths).flatten(1))

    @property
    def _has_prefixes(self) -> bool:
        return any(segment.start for segment in self.segments)

    @cached_property
    def _lengths(self) -> Lengths:
        """Of queries and keys; known to the host."""
        return Lengths([s.count for s in self.segments], [s.end for s in self.segments], self.cos_sin[0].device)

    @cached_property
    def _positions_T(self) -> Tensor:
        return to_device([p for s in self.segments for p in range(s.start, s.end)], self.cos_sin[0].device)

    @cached_property
    def _slots_T(self) -> Tensor:
        return to_device([s.slot for s in self.segments for _ in range(s.count)], self.cos_sin[0].device)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """One token of each request after what its slot holds."""

    config: MixtralConfig
    cos_sin: tuple[Tensor, Tensor]
    cache: SlotCache
    positions_S: Tensor
    slots_B: Tensor
    scratch: Scratch

    def __call__(self, layer: int, qkv_BN: Tensor, out_BN: Tensor) -> None:
        with ranges.range("attention", layer=layer):
            slot_attention(
                qkv_BN,
                self.cos_sin,
                self.positions_S,
                self.slots_B,
                self.cache.sides(layer),
                out_BN,
                slot_stride=self.cache.slot_stride,
                heads=(self.config.num_heads, self.config.num_kv_heads),
                scratch=self.scratch,
            )


class Lengths:
    """Of each sequence's queries and keys, as lists and as running sums on the device."""

    def __init__(self, queries: list[int], keys: list[int], device: torch.device) -> None:
        self.queries, self.keys = queries, keys
        self.query_starts = to_device([0, *accumulate(queries)], device)
        self.key_starts = to_device([0, *accumulate(keys)], device)


def flash(queries_THd: Tensor, keys_TGd: Tensor, values_TGd: Tensor, lengths: Lengths) -> Tensor:
    """PyTorch's FlashAttention over sequences of different lengths; the last query sees the last key."""
    starts = lengths.query_starts, lengths.key_starts
    longest = max(lengths.queries), max(lengths.keys)
    return torch.ops.aten._flash_attention_forward(
        queries_THd, keys_TGd, values_TGd, *starts, *longest, 0.0, True, False, scale=queries_THd.shape[-1] ** -0.5
    )[0]


def sdpa(queries_THd: Tensor, keys_TGd: Tensor, values_TGd: Tensor, lengths: Lengths) -> Tensor:
    """scaled_dot_product_attention, a sequence at a time with its mask: anywhere."""
    outs = []
    parts = zip(queries_THd.split(lengths.queries), keys_TGd.split(lengths.keys), values_TGd.split(lengths.keys), strict=True)
    for q, k, v in parts:
        sees = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        outs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(outs)


LIBRARIES: dict[str, Callable[[Tensor, Tensor, Tensor, Lengths], Tensor]] = {
    "FlashAttention (PyTorch)": flash,
    "scaled_dot_product_attention (PyTorch)": sdpa,
}


def library_for(device: torch.device, head_dim: int) -> str:
    """The first of LIBRARIES that takes this device and head."""
    has_flash = device.type == "cuda" and head_dim % 8 == 0 and head_dim <= 256
    return list(LIBRARIES)[0 if has_flash else 1]


def to_device(values: list, device: torch.device, dtype: torch.dtype = torch.int32) -> Tensor:
    """A small tensor on the device, without waiting."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
