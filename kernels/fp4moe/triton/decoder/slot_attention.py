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
from fp4moe.triton.decoder.overlap import launch_options, let_next_start, wait_for_inputs
from fp4moe.triton.device import on_device

ROWS = 16
BLOCK_C = 64
_WANTED_PROGRAMS = 264  # two for each multiprocessor of a Hopper GPU
MAX_SPLITS = 16


@triton.jit
def load_block(keys_ptr, values_ptr, base, start, end, row_stride, HALF: tl.constexpr, BLOCK_C: tl.constexpr):
    """Keys as two halves [HALF, BLOCK_C] and values [BLOCK_C, 2 HALF] of positions start .. end - 1; zeros beyond."""
    c = start + tl.arange(0, BLOCK_C)
    i, j = tl.arange(0, HALF), tl.arange(0, 2 * HALF)
    is_there = c < end
    at = base + c * row_stride
    first = tl.load(keys_ptr + at[None, :] + i[:, None], mask=is_there[None, :], other=0.0)
    second = tl.load(keys_ptr + at[None, :] + HALF + i[:, None], mask=is_there[None, :], other=0.0)
    values = tl.load(values_ptr + at[:, None] + j[None, :], mask=is_there[:, None], other=0.0)
    return first, second, values


@triton.jit
def attend_block(
    queries_first, queries_second, keys_first, keys_second, values, num_there, scale, most, total, sums,
    ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """(most, total, sums) of a running softmax after one more block, of which `num_there` positions exist."""
    scores = dot(queries_first, keys_first, tl.zeros((ROWS, BLOCK_C), tl.float32))
    scores = dot(queries_second, keys_second, scores) * scale
    scores = tl.where((tl.arange(0, BLOCK_C) < num_there)[None, :], scores, float("-inf"))
    grown = tl.maximum(most, tl.max(scores, axis=1))
    share = tl.exp(scores - grown[:, None])
    before = tl.exp(most - grown)
    sums = dot(to_bf16(share), values, sums * before[:, None])
    return grown, total * before + tl.sum(share, axis=1), sums


@triton.jit
def slot_attention_kernel(
    qkv_ptr, cos_ptr, sin_ptr, position_ptr, slot_ptr, keys_ptr, values_ptr, out_ptr, parts_ptr, stats_ptr, arrived_ptr,
    slot_stride, scale,
    H: tl.constexpr, G: tl.constexpr, HALF: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    request, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    D: tl.constexpr = 2 * HALF
    SHARED: tl.constexpr = H // G
    let_next_start(OVERLAP)
    # Slots, positions and the keys and values before this one are what earlier steps left.
    slot = tl.load(slot_ptr + request).to(tl.int64)
    position = tl.load(position_ptr + slot).to(tl.int64)
    num_blocks = tl.cdiv(position, BLOCK_C)
    blocks = tl.maximum(tl.cdiv(num_blocks, SPLITS), 1)
    # Programs that have something to do: those beyond end at once, and nobody waits for them.
    num_busy = tl.maximum(tl.cdiv(num_blocks, blocks), 1)
    if split >= num_busy:
        return
    base = slot * slot_stride + group * D
    start, end = split * blocks * BLOCK_C, tl.minimum((split + 1) * blocks * BLOCK_C, position)
    keys_first, keys_second, values = load_block(keys_ptr, values_ptr, base, start, end, G * D, HALF, BLOCK_C)
    i, j, row = tl.arange(0, HALF), tl.arange(0, D), tl.arange(0, ROWS)
    cos, sin = tl.load(cos_ptr + position * HALF + i), tl.load(sin_ptr + position * HALF + i)
    wait_for_inputs(OVERLAP)
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
    if start < end:
        most, total, sums = attend_block(
            turned_first, turned_second, keys_first, keys_second, values, end - start, scale, most, total, sums, ROWS, BLOCK_C
        )
    for at in range(start + BLOCK_C, end, BLOCK_C):
        keys_first, keys_second, values = load_block(keys_ptr, values_ptr, base, at, end, G * D, HALF, BLOCK_C)
        most, total, sums = attend_block(
            turned_first, turned_second, keys_first, keys_second, values, end - at, scale, most, total, sums, ROWS, BLOCK_C
        )
    out_at = out_ptr + request.to(tl.int64) * (H * D) + group * SHARED * D
    if num_busy == 1:
        tl.store(out_at + row[:, None] * D + j[None, :], to_bf16(sums / total[:, None]), mask=is_row)
    else:
        pair = request * G + group
        part = ((pair * SPLITS + split) * BLOCK_S + row).to(tl.int64)
        tl.store(parts_ptr + part[:, None] * D + j[None, :], sums, mask=is_row)
        tl.store(stats_ptr + part * 2, most, mask=row < SHARED)
        tl.store(stats_ptr + part * 2 + 1, total, mask=row < SHARED)
        tl.debug_barrier()
        if tl.atomic_add(arrived_ptr + pair, 1, sem="acq_rel") == num_busy - 1:
            shared = tl.arange(0, BLOCK_S)
            is_shared = shared < SHARED
            other = tl.arange(0, SPLITS)
            all_parts = ((pair * SPLITS + other[:, None]) * BLOCK_S + shared[None, :]).to(tl.int64)
            is_part = (other < num_busy)[:, None] & is_shared[None, :]
            parts_most = tl.load(stats_ptr + all_parts * 2, mask=is_part, other=float("-inf"), volatile=True)
            parts_total = tl.load(stats_ptr + all_parts * 2 + 1, mask=is_part, other=0.0, volatile=True)
            grown = tl.max(parts_most, axis=0)
            total_all = tl.sum(parts_total * tl.exp(parts_most - grown[None, :]), axis=0)
            sums_all = tl.zeros((BLOCK_S, D), tl.float32)
            for k in tl.static_range(SPLITS):
                is_one = is_shared & (k < num_busy)
                part_k = ((pair * SPLITS + k) * BLOCK_S + shared).to(tl.int64)
                most_k = tl.load(stats_ptr + part_k * 2, mask=is_one, other=float("-inf"), volatile=True)
                sums_k = tl.load(parts_ptr + part_k[:, None] * D + j[None, :], mask=is_one[:, None], other=0.0, volatile=True)
                sums_all += sums_k * tl.exp(most_k - grown)[:, None]
            tl.store(
                out_at + shared[:, None] * D + j[None, :], to_bf16(sums_all / total_all[:, None]), mask=is_shared[:, None]
            )
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
            H=num_heads, G=num_kv_heads, HALF=half, SPLITS=splits, ROWS=ROWS, BLOCK_C=BLOCK_C,
            BLOCK_S=triton.next_power_of_2(num_heads // num_kv_heads), num_warps=4, num_stages=2,
            **launch_options(qkv_BN),
        )  # fmt: skip
