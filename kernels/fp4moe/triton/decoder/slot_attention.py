"""Attention of one new token a request over its slot of the cache, with rotary embedding and the cache's append, in one launch.

    out[b, h] = softmax over positions 0..p of (q[b, h] . k[slot, position, g]) / sqrt(d), times v

In: qkv BF16 [B, (H + 2 G) d] before rotation, a slot a request and its position p (tokens already in the slot). Out: out BF16
[B, H d]; rotated key and value at position p of the slot. A slot's tokens are shared out over SPLITS programs; the last one to
end adds the parts up, so nothing else is launched and the sum has one order. The new token never travels through the cache.
Source: the split of Flash-Decoding; the H / G queries of a key-value head are the rows of one tensor core tile.

Shapes: B requests, H heads, G key-value heads, d head_dim, S slots, C context, R = 16 >= H / G query rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import dot, to_bf16
from fp4moe.triton.device import on_device

ROWS = 16
BLOCK_C = 64
_WANTED_PROGRAMS = 264  # two for each multiprocessor of a Hopper GPU
MAX_SPLITS = 32


@triton.jit
def slot_attention_kernel(
    qkv_ptr, cos_ptr, sin_ptr, position_ptr, slot_ptr, keys_ptr, values_ptr, out_ptr, parts_ptr, stats_ptr, arrived_ptr,
    slot_stride, scale,
    H: tl.constexpr, G: tl.constexpr, HALF: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    request, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    D: tl.constexpr = 2 * HALF
    SHARED: tl.constexpr = H // G
    slot = tl.load(slot_ptr + request).to(tl.int64)
    position = tl.load(position_ptr + slot).to(tl.int64)
    i, j, row = tl.arange(0, HALF), tl.arange(0, D), tl.arange(0, ROWS)
    cos, sin = tl.load(cos_ptr + position * HALF + i), tl.load(sin_ptr + position * HALF + i)
    line = qkv_ptr + request.to(tl.int64) * ((H + 2 * G) * D)
    is_row = (row < SHARED)[:, None]
    q_at = line + (group * SHARED + row)[:, None] * D + i[None, :]
    q_first = tl.load(q_at, mask=is_row, other=0.0).to(tl.float32)
    q_second = tl.load(q_at + HALF, mask=is_row, other=0.0).to(tl.float32)
    turned_first = to_bf16(q_first * cos[None, :] - q_second * sin[None, :])
    turned_second = to_bf16(q_second * cos[None, :] + q_first * sin[None, :])
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, D), tl.float32)
    base = slot * slot_stride + group * D
    if split == 0:
        k_at = line + (H + group) * D + i
        k_first, k_second = tl.load(k_at).to(tl.float32), tl.load(k_at + HALF).to(tl.float32)
        new_first = to_bf16(k_first * cos - k_second * sin)
        new_second = to_bf16(k_second * cos + k_first * sin)
        value = tl.load(line + (H + G + group) * D + j)
        new_at = base + position * (G * D)
        tl.store(keys_ptr + new_at + i, new_first)
        tl.store(keys_ptr + new_at + HALF + i, new_second)
        tl.store(values_ptr + new_at + j, value)
        most = tl.sum(turned_first.to(tl.float32) * new_first.to(tl.float32)[None, :], axis=1)
        most += tl.sum(turned_second.to(tl.float32) * new_second.to(tl.float32)[None, :], axis=1)
        most *= scale
        total = tl.full((ROWS,), 1.0, tl.float32)
        sums += value.to(tl.float32)[None, :]
    blocks = tl.cdiv(tl.cdiv(position, BLOCK_C), SPLITS)
    start, end = split * blocks * BLOCK_C, tl.minimum((split + 1) * blocks * BLOCK_C, position)
    for at in range(start, end, BLOCK_C):
        c = at + tl.arange(0, BLOCK_C)
        is_there = c < end
        rows_at = base + c * (G * D)
        keys_first = tl.load(keys_ptr + rows_at[None, :] + i[:, None], mask=is_there[None, :], other=0.0)
        keys_second = tl.load(keys_ptr + rows_at[None, :] + HALF + i[:, None], mask=is_there[None, :], other=0.0)
        values = tl.load(values_ptr + rows_at[:, None] + j[None, :], mask=is_there[:, None], other=0.0)
        scores = dot(turned_first, keys_first, tl.zeros((ROWS, BLOCK_C), tl.float32))
        scores = dot(turned_second, keys_second, scores) * scale
        scores = tl.where(is_there[None, :], scores, float("-inf"))
        grown = tl.maximum(most, tl.max(scores, axis=1))
        share = tl.exp(scores - grown[:, None])
        before = tl.exp(most - grown)
        total = total * before + tl.sum(share, axis=1)
        sums = dot(to_bf16(share), values, sums * before[:, None])
        most = grown
    out_at = out_ptr + request.to(tl.int64) * (H * D) + (group * SHARED + row)[:, None] * D + j[None, :]
    if SPLITS == 1:
        tl.store(out_at, to_bf16(sums / total[:, None]), mask=is_row)
    else:
        pair = request * G + group
        part = (pair * SPLITS + split).to(tl.int64) * ROWS + row
        tl.store(parts_ptr + part[:, None] * D + j[None, :], sums)
        tl.store(stats_ptr + part * 2, most)
        tl.store(stats_ptr + part * 2 + 1, total)
        tl.debug_barrier()
        if tl.atomic_add(arrived_ptr + pair, 1, sem="acq_rel") == SPLITS - 1:
            most = tl.full((ROWS,), float("-inf"), tl.float32)
            total = tl.zeros((ROWS,), tl.float32)
            sums = tl.zeros((ROWS, D), tl.float32)
            for other in range(SPLITS):
                part = (pair * SPLITS + other).to(tl.int64) * ROWS + row
                other_most = tl.load(stats_ptr + part * 2, volatile=True)
                other_total = tl.load(stats_ptr + part * 2 + 1, volatile=True)
                other_sums = tl.load(parts_ptr + part[:, None] * D + j[None, :], volatile=True)
                grown = tl.maximum(most, other_most)
                before, here = tl.exp(most - grown), tl.exp(other_most - grown)
                total = total * before + other_total * here
                sums = sums * before[:, None] + other_sums * here[:, None]
                most = grown
            tl.store(out_at, to_bf16(sums / total[:, None]), mask=is_row)
            tl.store(arrived_ptr + pair, 0)


@dataclass(frozen=True, slots=True)
class Scratch:
    """What the programs of a request leave for the last one; `arrived` is zero between launches."""

    parts: Tensor
    stats: Tensor
    arrived: Tensor

    @classmethod
    def of(cls, max_requests: int, kv_heads: int, head_dim: int, device: torch.device) -> Scratch:
        """Room for any number of requests up to `max_requests`."""
        pairs = max(requests * kv_heads * num_splits(requests, kv_heads) for requests in range(1, max_requests + 1))
        parts = torch.empty(pairs * ROWS * head_dim, dtype=torch.float32, device=device)
        stats = torch.empty(pairs * ROWS * 2, dtype=torch.float32, device=device)
        return cls(parts, stats, torch.zeros(max_requests * kv_heads, dtype=torch.int32, device=device))


def num_splits(requests: int, kv_heads: int) -> int:
    """Programs that share a slot's tokens: as many as fill the GPU, a power of two."""
    wanted = _WANTED_PROGRAMS // (requests * kv_heads)
    return max(1, min(MAX_SPLITS, triton.next_power_of_2(wanted + 1) // 2))


def slot_attention(
    qkv_BN: Tensor,
    cos_sin: tuple[Tensor, Tensor],
    positions_S: Tensor,
    slots_B: Tensor,
    sides: tuple[Tensor, Tensor],
    out_BN: Tensor,
    *,
    slot_stride: int,
    heads: tuple[int, int],
    scratch: Scratch,
) -> None:
    """Fill out_BN and the cache; `positions_S` is by slot, `sides` keys and values, `heads` is (H, G) with H / G <= 16."""
    (num_heads, num_kv_heads), num_requests = heads, qkv_BN.shape[0]
    half = cos_sin[0].shape[1]
    assert num_heads // num_kv_heads <= ROWS
    splits = num_splits(num_requests, num_kv_heads)
    with on_device(qkv_BN):
        slot_attention_kernel[(num_requests, num_kv_heads, splits)](
            qkv_BN, *cos_sin, positions_S, slots_B, *sides, out_BN,
            scratch.parts, scratch.stats, scratch.arrived, slot_stride, (2 * half) ** -0.5,
            H=num_heads, G=num_kv_heads, HALF=half, SPLITS=splits, ROWS=ROWS, BLOCK_C=BLOCK_C, num_warps=4, num_stages=2,
        )  # fmt: skip
