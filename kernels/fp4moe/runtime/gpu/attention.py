"""Attention of the GPU engine: a packed batch of prompts, and one new token a request.

In: qkv of a layer, before rotation. Out: attention output [T, H d] in BF16, and the new keys and values in the cache. Prompts
go through a library's kernel (LIBRARIES, in order of preference), decoding through slot_attention.py, since no library on a
bare PyTorch host takes slots of different lengths with rotation and append in one launch (docs/decisions/0011).

Shapes: T tokens of a step, B requests, H heads, G key-value heads, d head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe import ranges
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.gpu.cache import SlotCache
from fp4moe.runtime.gpu.segment import Segment
from fp4moe.triton.decoder.rotary_store import rotary_store
from fp4moe.triton.decoder.slot_attention import Scratch, slot_attention

DECODE_KERNEL = "slot_attention (Triton, split over the context)"


@dataclass(frozen=True, slots=True)
class PackedPrompts:
    """Stretches of prompts one after another. Without a cache the segments are whole sequences and nothing is stored."""

    config: MixtralConfig
    cos_sin: tuple[Tensor, Tensor]
    segments: Sequence[Segment]
    cache: SlotCache | None
    lengths: Lengths
    positions_T: Tensor
    slots_T: Tensor

    @classmethod
    def of(
        cls, config: MixtralConfig, cos_sin: tuple[Tensor, Tensor], segments: Sequence[Segment], cache: SlotCache | None
    ) -> PackedPrompts:
        """With what the device needs to know of the segments."""
        device = cos_sin[0].device
        positions = to_device([p for s in segments for p in range(s.start, s.end)], device)
        slots = to_device([s.slot for s in segments for _ in range(s.count)], device)
        lengths = Lengths.of([s.count for s in segments], [s.end for s in segments], device)
        return cls(config, cos_sin, segments, cache, lengths, positions, slots)

    def __call__(self, layer: int, qkv_TN: Tensor) -> Tensor:
        with ranges.range("attention", layer=layer):
            heads, kv_heads = self.config.num_heads, self.config.num_kv_heads
            sides = None if self.cache is None else self.cache.sides(layer)
            stride = 0 if self.cache is None else self.cache.slot_stride
            places = self.positions_T, self.slots_T
            rotary_store(qkv_TN, self.cos_sin, *places, sides, slot_stride=stride, heads=(heads, kv_heads))
            qkv_THd = qkv_TN.unflatten(-1, (heads + 2 * kv_heads, -1))
            queries, keys, values = qkv_THd.split([heads, kv_heads, kv_heads], dim=1)
            if any(segment.start for segment in self.segments):
                stored = [self.cache.prefix(layer, segment.slot, segment.end) for segment in self.segments]
                keys, values = (torch.cat(side) for side in zip(*stored, strict=True))
            library = LIBRARIES[library_for(qkv_TN.device, self.config.head_dim)]
            return library(queries, keys, values, self.lengths).flatten(1)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """One token of each request after what its slot holds."""

    config: MixtralConfig
    cos_sin: tuple[Tensor, Tensor]
    cache: SlotCache
    positions_S: Tensor
    slots_B: Tensor
    scratch: Scratch

    def __call__(self, layer: int, qkv_BN: Tensor) -> Tensor:
        with ranges.range("attention", layer=layer):
            width = self.config.num_heads * self.config.head_dim
            out_BN = torch.empty(len(qkv_BN), width, dtype=qkv_BN.dtype, device=qkv_BN.device)
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
            return out_BN


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of each sequence's queries and keys, as lists and as running sums on the device."""

    queries: list[int]
    keys: list[int]
    query_starts: Tensor
    key_starts: Tensor

    @classmethod
    def of(cls, queries: list[int], keys: list[int], device: torch.device) -> Lengths:
        """From the lists."""
        starts = (to_device([0, *accumulate(counts)], device) for counts in (queries, keys))
        return cls(queries, keys, *starts)


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
