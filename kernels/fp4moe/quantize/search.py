"""The block scale of least squared error out of a whole table of scales, without trying them all.

In: blocks of weights and an ascending table of scales. Out: for each block the index of a scale whose error
sum((u - s * round_e2m1(u / s))^2) no other scale of the table undercuts. Source: the two bounds below,
derived here and tested against trying every scale.

Upper bound. E2M1's grid times 2s lies inside its grid times s as far as 6s. So 2s cannot beat s unless a
value rounds past 6s, which needs amax > 7s. A scale s' with s' >= 2 * amax / 7 is thus useless if s'/2 is in
the table too: the caller starts at the largest scale that this does not exclude and the search walks down.
Lower bound. At scale s the largest value is clipped to 6s, which alone costs (amax - 6s)^2. Once that reaches
the best error found, no smaller scale can win, and the block is done. About nine of 126 scales are tried on
average.

Shapes: B blocks, K values a block, C scales in the table.
"""

import torch
from torch import Tensor

from fp4moe.formats import E2M1_MAX
from fp4moe.quantize.e2m1 import round_magnitude
from fp4moe.quantize.exact import sum_in_order


def block_error(magnitudes_BK: Tensor, scale_B: Tensor) -> Tensor:
    """Squared error [B] of |u| rounded to E2M1 at one scale a block."""
    scale_B1 = scale_B.unsqueeze(-1)
    rounded_BK = round_magnitude(magnitudes_BK / scale_B1)
    return sum_in_order(rounded_BK.mul_(scale_B1).sub_(magnitudes_BK).square_())


def search_scales(magnitudes_BK: Tensor, scales_C: Tensor, start_B: Tensor, lowest_B: Tensor) -> Tensor:
    """int64 [B]: index of the best scale from start_B down to lowest_B; of equal ones the largest."""
    amax_B = magnitudes_BK.amax(-1)
    best_index = start_B.clone()
    best_error = torch.full_like(amax_B, torch.inf)
    active = torch.arange(len(amax_B), device=amax_B.device)
    index = start_B
    while len(active):
        error = block_error(magnitudes_BK, scales_C[index])
        improved = error < best_error
        best_error = torch.where(improved, error, best_error)
        best_index[active[improved]] = index[improved]
        index = index - 1
        unclipped = amax_B - E2M1_MAX * scales_C[index.clamp(min=0)]
        useful = (index >= lowest_B) & ((unclipped <= 0) | (unclipped.square() < best_error))
        if not useful.all():
            magnitudes_BK, amax_B, best_error = magnitudes_BK[useful], amax_B[useful], best_error[useful]
            active, index, lowest_B = active[useful], index[useful], lowest_B[useful]
    return best_index
