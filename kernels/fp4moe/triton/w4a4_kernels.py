"""The grouped product of FP4 weights and FP4 activations, with SiLU or the router weight in its epilogue; and the final sum.

    gated:     h[s] = silu(gate_e x[s // K]) * (up_e x[s // K])
    otherwise: part[s, i] = router weight[s] * down_e h[s], reduced over the i-th share of F
    combine:   y[t] = sum over the slots of t and their shares, always in that order: no atomics, the same bits every time

In: packed chunks (w4a4_layout.py), quantized rows (w4a4_quantize.py), tiles of slots (w4a4_slots.py). Out: float32 or bfloat16
rows in slot order. A program computes 128 weight rows x TOKENS slots of one expert and streams both operands along k in chunks
of 128. Slots past a tile's last repeat it and are not stored. Neighboring programs share weight rows, not tokens: weights come
from memory once, the much smaller activations from L2.

Proven without such a GPU, by compiling and reading the result with Triton 3.6 (test_triton_w4a4_aot.py): SM120 gets
mma.sync...kind::mxf4nvf4.block_scale (scale_vec::4X for NVFP4, 2X for MXFP4) and OMMA.SF in SASS, SM100 gets tcgen05.mma with
kind::mxf4nvf4 (NVFP4) or kind::mxf4 (MXFP4), nothing is spilled, and a block of SM120 stays under 99 KB of shared memory. The
numbers are proven through the twin of the product (w4a4_dot.py), in Triton's interpreter and compiled on an H200; there MXFP4
also ran through `tl.dot_scaled`, which Triton emulates on SM90. Never run on an SM100 or SM120 GPU: no speed is known. Of their
families, sm_103 compiles alike; for sm_121 Triton 3.6 fails on NVFP4 and turns MXFP4 into BF16 products, for sm_110 it fails.
Not done: on SM100 the scales go through registers to tensor memory (tcgen05.st), not by tcgen05.cp; no TMA, no 2-CTA products.

Shapes: S slots, N weight rows, D inputs of the product (its K), E experts.
"""

import triton
import triton.language as tl

from fp4moe.triton.w4a4_dot import block_scaled_dot

TILE = tl.constexpr(128)


@triton.jit
def _bytes(words):
    """int32 [A, B, C] -> uint8 [A, B, C, 4], the lowest byte first."""
    return (words[:, :, :, None] >> (tl.arange(0, 4) * 8)[None, None, None, :]).to(tl.uint8)


@triton.jit
def _scales_of_chunk(scales, chunk, BLOCK: tl.constexpr):
    """uint8 [128, 128 / BLOCK]: scales of a chunk of weights, back from the order in which they are stored."""
    GROUPS: tl.constexpr = TILE // BLOCK // 4
    words = tl.load(scales + chunk * (GROUPS * TILE) + tl.arange(0, GROUPS * TILE)).reshape(GROUPS, 32, 4)
    return _bytes(words).permute(2, 1, 0, 3).reshape(TILE, GROUPS * 4)


@triton.jit
def _reduce_chunks(
    w, w_scales, first_chunk, x, x_scales, rows_T, begin,
    CHUNKS: tl.constexpr, CHUNKS_OF_SHARE: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """float32 [128, TOKENS]: CHUNKS_OF_SHARE chunks of a row tile from `begin` times rows of x; `first_chunk`: its chunk 0."""
    HALF: tl.constexpr = TILE // 2
    GROUPS: tl.constexpr = TILE // BLOCK // 4
    in_chunk = tl.arange(0, TILE)[:, None] * HALF + tl.arange(0, HALF)[None, :]
    x_at = x + rows_T[:, None] * (CHUNKS * HALF) + tl.arange(0, HALF)[None, :]
    x_scales_at = x_scales + rows_T[:, None] * (CHUNKS * GROUPS) + tl.arange(0, GROUPS)[None, :]
    acc_NT = tl.zeros((TILE, TOKENS), tl.float32)
    for step in range(0, CHUNKS_OF_SHARE):
        i = begin + step
        chunk = first_chunk + i
        w_NH = tl.load(w + chunk * (TILE * HALF) + in_chunk)
        w_scales_NG = _scales_of_chunk(w_scales, chunk, BLOCK)
        x_TH = tl.load(x_at + i * HALF)
        x_scales_TG = _bytes(tl.load(x_scales_at + i * GROUPS)[:, None, :]).reshape(TOKENS, GROUPS * 4)
        acc_NT = block_scaled_dot(w_NH, w_scales_NG, x_TH, x_scales_TG, acc_NT, TILE, TOKENS, TILE, BLOCK, NATIVE)
    return acc_NT


@triton.jit
def grouped_kernel(
    w, w_scales, w_row_scale, x, x_scales, x_row_scale, order, table, slot_weight, out, num_rows,
    CHUNKS: tl.constexpr, CHUNKS_OF_SHARE: tl.constexpr, TOP_K: tl.constexpr, GATED: tl.constexpr, BLOCK: tl.constexpr,
    TOKENS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Grid: (tiles of slots, row tiles, shares of the reduction). TOP_K: slots that share a row of x, 1 for `down`."""
    tile = tl.program_id(0)
    row_tile = tl.program_id(1)
    share = tl.program_id(2)
    expert = tl.load(table + tile)
    if expert < 0:
        return
    first = tl.load(table + tl.num_programs(0) + tile)
    last = tl.load(table + 2 * tl.num_programs(0) + tile)
    places_T = first + tl.arange(0, TOKENS)
    slots_T = tl.load(order + tl.minimum(places_T, last)).to(tl.int64)
    rows_T = slots_T // TOP_K
    first_chunk = (expert.to(tl.int64) * tl.num_programs(1) + row_tile) * CHUNKS
    begin = share * CHUNKS_OF_SHARE
    acc_NT = _reduce_chunks(
        w, w_scales, first_chunk, x, x_scales, rows_T, begin, CHUNKS, CHUNKS_OF_SHARE, BLOCK, TOKENS, NATIVE
    )

    row_scale_at = w_row_scale + expert.to(tl.int64) * num_rows + row_tile * TILE + tl.arange(0, TILE)
    acc_NT = acc_NT * tl.load(row_scale_at)[:, None] * tl.load(x_row_scale + rows_T)[None, :]
    is_slot_T = (places_T <= last)[None, :]
    if GATED:
        ROWS: tl.constexpr = TILE // 2
        gate_NT, up_NT = acc_NT.reshape(TILE // 16, 2, 8, TOKENS).permute(0, 2, 3, 1).split()
        gate_NT, up_NT = gate_NT.reshape(ROWS, TOKENS), up_NT.reshape(ROWS, TOKENS)
        result_NT = gate_NT / (1.0 + tl.exp(-gate_NT)) * up_NT
        num_outputs = num_rows // 2
    else:
        ROWS: tl.constexpr = TILE
        result_NT = acc_NT * tl.load(slot_weight + slots_T)[None, :]
        num_outputs = num_rows
    out_at = out + (slots_T * tl.num_programs(2) + share)[None, :] * num_outputs
    out_at += (row_tile * ROWS + tl.arange(0, ROWS))[:, None]
    tl.store(out_at, result_NT.to(out.dtype.element_ty), mask=is_slot_T)


@triton.jit
def combine_kernel(parts, y, num_columns, TERMS: tl.constexpr, COLUMNS: tl.constexpr):
    """Grid: (tokens, column blocks). TERMS: rows of `parts` that belong to a token, slots x shares."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = columns < num_columns
    total = tl.zeros((COLUMNS,), tl.float32)
    for term in range(TERMS):
        row = token * TERMS + term
        total += tl.load(parts + row * num_columns + columns, mask=is_column, other=0.0).to(tl.float32)
    tl.store(y + token * num_columns + columns, total.to(y.dtype.element_ty), mask=is_column)
