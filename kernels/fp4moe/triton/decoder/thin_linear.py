"""A product with few rows: y = x W^T for at most 32 tokens, which reads W once and little else.

In: x BF16 [T, K], W BF16 [N, K] contiguous. Out: y [T, N] in BF16 or float32, float32 sums. One token is multiplied without
tensor cores; more go through them with W's rows as the wide side. Every program reads whole rows of W, so that sums have one
order whatever T is within a width of tile.

Shapes: T tokens, N outputs, K inputs.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import dot, to_bf16
from fp4moe.triton.decoder.overlap import launch_options, let_next_start, wait_for_inputs
from fp4moe.triton.device import on_device

MAX_TOKENS = 32


@triton.jit
def as_stored(x, ptr):
    """float32 in the type that `ptr` points to: BF16 or float32."""
    return to_bf16(x) if ptr.dtype.element_ty == tl.bfloat16 else x


@triton.jit
def load_tile(w_at, is_output, k, start, K: tl.constexpr):
    """Columns start .. of W, zeros beyond K; read once, so not kept in the cache."""
    inside = k < K - start
    return tl.load(w_at + start, mask=is_output[:, None] & inside[None, :], other=0.0, eviction_policy="evict_first")


@triton.jit
def load_inputs(x_at, is_token, k, start, K: tl.constexpr):
    """The same columns of x, as [k, token]."""
    inside = k < K - start
    return tl.load(x_at + start, mask=inside[:, None] & is_token[None, :], other=0.0)


@triton.jit
def thin_linear_kernel(
    x_ptr, w_ptr, y_ptr, num_tokens, num_outputs, K: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    is_output = n < num_outputs
    let_next_start(OVERLAP)
    # The first tiles of W are on their way while the kernel before still runs.
    w_at = w_ptr + n.to(tl.int64)[:, None] * K + k[None, :]
    first = load_tile(w_at, is_output, k, 0, K)
    if BLOCK_T == 1:
        wait_for_inputs(OVERLAP)
        x = tl.load(x_ptr + k, mask=k < K, other=0.0)
        parts = first.to(tl.float32) * x.to(tl.float32)[None, :]
        for start in range(BLOCK_K, K, BLOCK_K):
            inside = k < K - start
            w = load_tile(w_at, is_output, k, start, K)
            x = tl.load(x_ptr + start + k, mask=inside, other=0.0)
            parts += w.to(tl.float32) * x.to(tl.float32)[None, :]
        tl.store(y_ptr + n, as_stored(tl.sum(parts, axis=1), y_ptr), mask=is_output)
    else:
        token = tl.arange(0, BLOCK_T)
        is_token = token < num_tokens
        second = load_tile(w_at, is_output, k, BLOCK_K, K)
        third = load_tile(w_at, is_output, k, 2 * BLOCK_K, K)
        wait_for_inputs(OVERLAP)
        x_at = x_ptr + token[None, :] * K + k[:, None]
        sums = dot(first, load_inputs(x_at, is_token, k, 0, K), tl.zeros((BLOCK_N, BLOCK_T), tl.float32))
        sums = dot(second, load_inputs(x_at, is_token, k, BLOCK_K, K), sums)
        sums = dot(third, load_inputs(x_at, is_token, k, 2 * BLOCK_K, K), sums)
        for start in range(3 * BLOCK_K, K, BLOCK_K):
            w = load_tile(w_at, is_output, k, start, K)
            sums = dot(w, load_inputs(x_at, is_token, k, start, K), sums)
        at = y_ptr + token.to(tl.int64)[None, :] * num_outputs + n[:, None]
        tl.store(at, as_stored(sums, y_ptr), mask=is_output[:, None] & is_token[None, :])


def tile(num_tokens: int) -> dict[str, int]:
    """Sizes and launch options for so many tokens, as measured on an H100 (docs/runtime.md)."""
    if num_tokens == 1:
        return {"BLOCK_T": 1, "BLOCK_N": 4, "BLOCK_K": 2048, "num_warps": 4, "num_stages": 2}
    block_t = max(16, triton.next_power_of_2(num_tokens))
    return {"BLOCK_T": block_t, "BLOCK_N": 32, "BLOCK_K": 128, "num_warps": 4, "num_stages": 5}


def thin_linear(x_TK: Tensor, w_NK: Tensor, y_TN: Tensor) -> None:
    """Fill y_TN; `x_TK` has 1 to MAX_TOKENS rows, all three are contiguous."""
    num_tokens, num_outputs = y_TN.shape
    assert 1 <= num_tokens <= MAX_TOKENS
    options = tile(num_tokens)
    with on_device(x_TK):
        thin_linear_kernel[(triton.cdiv(num_outputs, options["BLOCK_N"]),)](
            x_TK, w_NK, y_TN, num_tokens, num_outputs, K=x_TK.shape[1], **options, **launch_options(x_TK),
        )
