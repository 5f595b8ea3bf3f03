"""A token's output: the sum of its experts' rows, in a fixed order.

In: float32 [P, S, D], the rows of each slot in P partial sums over the reduction axis, already multiplied by the router's
weights. Out: y [T, D] in the layer's dtype. No atomics: the same bits in every run.

Shapes: P parts, T tokens, K experts a token, S = T * K slots, D hidden.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import to_bf16

_BLOCK = 1024


@triton.jit
def combine_kernel(
    parts_ptr, y_ptr, num_slots, hidden, TOP_K: tl.constexpr, NUM_PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < hidden
    y = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(TOP_K):
        for part in tl.static_range(NUM_PARTS):
            y += tl.load(parts_ptr + (part * num_slots + token * TOP_K + k) * hidden + column, mask=is_column, other=0.0)
    if y_ptr.dtype.element_ty == tl.bfloat16:
        tl.store(y_ptr + token * hidden + column, to_bf16(y), mask=is_column)
    else:
        tl.store(y_ptr + token * hidden + column, y, mask=is_column)


def combine(parts_PSD: Tensor, top_k: int, dtype: torch.dtype) -> Tensor:
    """y [T, D] in `dtype` (float32 or bfloat16). Launches on the current device."""
    num_parts, num_slots, hidden = parts_PSD.shape
    y_TD = torch.empty(num_slots // top_k, hidden, dtype=dtype, device=parts_PSD.device)
    combine_kernel[(num_slots // top_k, triton.cdiv(hidden, _BLOCK))](
        parts_PSD, y_TD, num_slots, hidden, TOP_K=top_k, NUM_PARTS=num_parts, BLOCK=_BLOCK, num_warps=4
    )
    return y_TD
