"""The grouped product: every tile of token rows with the weights of its expert, in one launch.

    y[slot, n] = sum over k of x[row of slot, k] * w[expert, n, k]        GATED: h = silu(gate) * up, rows n and N + n of w

In: rows.py's activations, stored weights, sort.py's tiles. Out: h in BF16 (float32 before a rounding to FP8), or float32
products times the router's weight, in SPLIT_K partial sums for combine.py. The weights are the left operand, so that 16
tokens fill a tile's N and no tensor core row is wasted on padding, and are expanded from FP4 in registers.
    nvfp4, mxfp4   exact in BF16 (see bits.py), BF16 tensor cores; also under FP8 activations, whose E4M3 values are exact in
                   BF16: value * block scale has no exact E4M3 form, so an FP8 product would round the weights again
    fp8            E4M3 x E4M3 on FP8 tensor cores (sm_89 and newer), partial sums to float32 every 128 k
    bf16           BF16 tensor cores
Row and tensor scales, and a token's scale, multiply the float32 sum. Columns past `num_columns` are written as zeros, up to
the width that the next product reads.

Shapes: S slots, N output columns, K reduction; tile BLOCK_N rows of w by BLOCK_M slots by BLOCK_K.
"""

import triton
import triton.language as tl

from fp4moe.triton.bits import dot, expand_words, k_of_position, to_bf16, unfold_factor


@triton.jit
def fp4_tile(
    words_ptr, scales_ptr, codes_a_row, scales_a_row, row, is_row, first_k,
    FORMAT: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    """BF16 [BLOCK_N, BLOCK_K] of the rows `row` from k = first_k on, in permuted order."""
    BLOCK: tl.constexpr = 16 if FORMAT == "nvfp4" else 32  # weights that share a scale
    word = first_k // 8 + tl.arange(0, BLOCK_K // 8)
    group = first_k // BLOCK + tl.arange(0, BLOCK_K // BLOCK)
    is_word = is_row[:, None] if EVEN_K else is_row[:, None] & (word < codes_a_row)[None, :]
    is_group = is_row[:, None] if EVEN_K else is_row[:, None] & (group < scales_a_row)[None, :]
    words = tl.load(words_ptr + row[:, None] * codes_a_row + word[None, :], mask=is_word, other=0)
    scales = tl.load(scales_ptr + row[:, None] * scales_a_row + group[None, :], mask=is_group, other=0)
    return expand_words(words, scales, FORMAT, BLOCK_N, BLOCK_K)


@triton.jit
def weight_tile(
    codes_ptr, scales_ptr, codes_a_row, scales_a_row, row, is_row, first_k,
    FORMAT: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    """[BLOCK_N, BLOCK_K] of the rows `row` from k = first_k on, as tensor cores take it."""
    if FORMAT == "nvfp4" or FORMAT == "mxfp4":
        return fp4_tile(
            codes_ptr, scales_ptr, codes_a_row, scales_a_row, row, is_row, first_k, FORMAT, BLOCK_N, BLOCK_K, EVEN_K
        )
    else:
        k = first_k + tl.arange(0, BLOCK_K)
        is_code = is_row[:, None] if EVEN_K else is_row[:, None] & (k < codes_a_row)[None, :]
        return tl.load(codes_ptr + row[:, None] * codes_a_row + k[None, :], mask=is_code, other=0.0)


@triton.jit
def row_factor(ptr, expert, expert_stride, row, row_stride, is_row, FORMAT: tl.constexpr):
    """[BLOCK_N, 1]: what the sums of each weight row are multiplied by."""
    factor = tl.zeros_like(row).to(tl.float32) + unfold_factor(FORMAT)
    if FORMAT == "nvfp4" or FORMAT == "fp8":
        factor *= tl.load(ptr + expert * expert_stride + row * row_stride, mask=is_row, other=0.0)
    return factor[:, None]


@triton.jit
def grouped_gemm_kernel(
    x_ptr, x_scale_ptr, codes_ptr, scales_ptr, factor_ptr, y_ptr, slot_of_row_ptr, expert_of_tile_ptr, router_ptr,
    num_slots, slots_a_row, num_columns, y_width, k_size, codes_a_row, scales_a_row, x_width, max_tiles,
    factor_expert_stride, factor_row_stride,
    FORMAT: tl.constexpr, GATED: tl.constexpr, HAS_TOKEN_SCALE: tl.constexpr, PERMUTE_OUT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, SPLIT_K: tl.constexpr,
    EVEN_K: tl.constexpr,
):  # fmt: skip
    # Programs that follow each other share weights (GROUP_M tiles of rows), then activations.
    num_blocks_n = (y_width + BLOCK_N - 1) // BLOCK_N
    group = tl.program_id(0) // (GROUP_M * num_blocks_n)
    within = tl.program_id(0) % (GROUP_M * num_blocks_n)
    tiles_in_group = tl.minimum(max_tiles - group * GROUP_M, GROUP_M)
    tile = group * GROUP_M + within % tiles_in_group
    block_n = within // tiles_in_group
    expert = tl.load(expert_of_tile_ptr + tile).to(tl.int64)
    if expert < 0:
        return

    slot = tl.load(slot_of_row_ptr + tile * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    is_slot = slot < num_slots
    x_row = slot // slots_a_row
    position = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    row = k_of_position(position) if PERMUTE_OUT else position
    is_row = row < num_columns

    num_rows = 2 * num_columns if GATED else num_columns
    codes_ptr += expert * num_rows * codes_a_row
    scales_ptr += expert * num_rows * scales_a_row

    steps = ((k_size + BLOCK_K - 1) // BLOCK_K + SPLIT_K - 1) // SPLIT_K
    start = tl.program_id(1) * steps * BLOCK_K
    end = tl.minimum(start + steps * BLOCK_K, k_size)
    x_ptrs = x_ptr + (x_row * x_width)[None, :] + tl.arange(0, BLOCK_K)[:, None]
    sum = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    if GATED:
        up_sum = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for k in range(start, end, BLOCK_K):
        x = tl.load(x_ptrs + k, mask=is_slot[None, :], other=0.0)
        w = weight_tile(
            codes_ptr, scales_ptr, codes_a_row, scales_a_row, row, is_row, k, FORMAT, BLOCK_N, BLOCK_K, EVEN_K
        )
        sum = dot(w, x, sum)
        if GATED:
            up = weight_tile(
                codes_ptr, scales_ptr, codes_a_row, scales_a_row, row + num_columns, is_row, k, FORMAT, BLOCK_N, BLOCK_K, EVEN_K
            )
            up_sum = dot(up, x, up_sum)

    sum *= row_factor(factor_ptr, expert, factor_expert_stride, row, factor_row_stride, is_row, FORMAT)
    if HAS_TOKEN_SCALE:
        token_scale = tl.load(x_scale_ptr + x_row, mask=is_slot, other=0.0)[None, :]
        sum *= token_scale
    if GATED:
        up_sum *= row_factor(factor_ptr, expert, factor_expert_stride, row + num_columns, factor_row_stride, is_row, FORMAT)
        if HAS_TOKEN_SCALE:
            up_sum *= token_scale
        out = sum / (1.0 + tl.exp(-sum)) * up_sum
        out = to_bf16(out) if y_ptr.dtype.element_ty == tl.bfloat16 else out
    else:
        out = sum * tl.load(router_ptr + slot, mask=is_slot, other=0.0)[None, :]
        y_ptr += tl.program_id(1).to(tl.int64) * num_slots * y_width
    y_ptrs = y_ptr + (slot * y_width)[None, :] + position[:, None]
    tl.store(y_ptrs, out, mask=is_slot[None, :] & (position < y_width)[:, None])
