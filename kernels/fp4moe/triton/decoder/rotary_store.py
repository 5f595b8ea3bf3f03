"""Rotary embedding of a prompt's queries and keys, and its keys and values into the cache: one program a token.

In: qkv BF16 [T, (H + 2 G) d] (queries, keys, values; rotated in place), a position and a slot a token, cosines and sines
float32 [C, d / 2]. Out: rows of the cache's keys and values of one layer; a slot's tokens lie together. Half-split convention,
as runtime/layers.py: pairs are (x[i], x[i + d / 2]). Angles are the table's, rounded once; nothing is computed here that the
decode kernel computes otherwise.

Shapes: T tokens, H heads, G key-value heads, d head_dim, S slots, C context.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import to_bf16
from fp4moe.triton.decoder.overlap import launch_options, let_next_start, wait_for_inputs
from fp4moe.triton.device import on_device


@triton.jit
def rotary_store_kernel(
    qkv_ptr, cos_ptr, sin_ptr, position_ptr, slot_ptr, keys_ptr, values_ptr, slot_stride,
    H: tl.constexpr, G: tl.constexpr, HALF: tl.constexpr, BLOCK_HG: tl.constexpr, BLOCK_G: tl.constexpr,
    HAS_CACHE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    let_next_start(OVERLAP)
    wait_for_inputs(OVERLAP)
    position = tl.load(position_ptr + token).to(tl.int64)
    i = tl.arange(0, HALF)
    cos = tl.load(cos_ptr + position * HALF + i)[None, :]
    sin = tl.load(sin_ptr + position * HALF + i)[None, :]
    head = tl.arange(0, BLOCK_HG)
    is_head = (head < H + G)[:, None]
    at = qkv_ptr + token * ((H + 2 * G) * 2 * HALF) + head[:, None] * (2 * HALF) + i[None, :]
    first = tl.load(at, mask=is_head, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=is_head, other=0.0).to(tl.float32)
    turned_first = to_bf16(first * cos - second * sin)
    turned_second = to_bf16(second * cos + first * sin)
    tl.store(at, turned_first, mask=is_head)
    tl.store(at + HALF, turned_second, mask=is_head)
    if HAS_CACHE:
        row = tl.load(slot_ptr + token).to(tl.int64) * slot_stride + position * (G * 2 * HALF)
        is_key = ((head >= H) & (head < H + G))[:, None]
        key_at = keys_ptr + row + (head - H)[:, None] * (2 * HALF) + i[None, :]
        tl.store(key_at, turned_first, mask=is_key)
        tl.store(key_at + HALF, turned_second, mask=is_key)
        group = tl.arange(0, BLOCK_G)[:, None]
        j = tl.arange(0, 2 * HALF)[None, :]
        is_group = group < G
        value_at = qkv_ptr + token * ((H + 2 * G) * 2 * HALF) + (H + G + group) * (2 * HALF) + j
        value = tl.load(value_at, mask=is_group, other=0.0)
        tl.store(values_ptr + row + group * (2 * HALF) + j, value, mask=is_group)


def rotary_store(
    qkv_TN: Tensor,
    cos_sin: tuple[Tensor, Tensor],
    positions_T: Tensor,
    slots_T: Tensor | None,
    sides: tuple[Tensor, Tensor] | None,
    *,
    slot_stride: int,
    heads: tuple[int, int],
) -> None:
    """`heads` is (H, G); `sides` keys and values of the cache. Without them only the rotation is done."""
    num_heads, num_kv_heads = heads
    half = cos_sin[0].shape[1]
    unused = qkv_TN
    with on_device(qkv_TN):
        rotary_store_kernel[(qkv_TN.shape[0],)](
            qkv_TN, *cos_sin, positions_T,
            unused if slots_T is None else slots_T,
            *((unused, unused) if sides is None else sides), slot_stride,
            H=num_heads, G=num_kv_heads, HALF=half,
            BLOCK_HG=triton.next_power_of_2(num_heads + num_kv_heads), BLOCK_G=triton.next_power_of_2(num_kv_heads),
            HAS_CACHE=sides is not None, num_warps=4, **launch_options(qkv_TN),
        )  # fmt: skip
