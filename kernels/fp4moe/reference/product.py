"""A matrix product whose rows do not depend on how many there are.

    y = x W^T

In: float32 x and W. Out: float32. BLAS libraries choose another kernel, and with it another order of
summation, by the number of rows; a request's numbers would then depend on who else is in the batch, and a
rounding to 8 or 4 bits after it makes such a last bit visible. Up to STABLE_ROWS rows are therefore
multiplied in pairs, every pair by the same kernel; more rows (prefill, scoring) go through one product.
Measured on x86 with MKL: as fast as F.linear for one row, 0.7 of it for eight. Other libraries may be stable
without, or not with it.

Shapes: R rows, K reduction, N outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STABLE_ROWS = 32


def product(x_RK: Tensor, w_NK: Tensor) -> Tensor:
    """x W^T, [R, N]; a row's bits are the same in any batch of at most STABLE_ROWS rows."""
    num_rows = x_RK.shape[0]
    if num_rows > STABLE_ROWS or num_rows == 0:
        return F.linear(x_RK, w_NK)
    if num_rows % 2:
        x_RK = F.pad(x_RK, (0, 0, 0, 1))
    pairs_P2K = x_RK.reshape(-1, 2, x_RK.shape[1])
    return torch.bmm(pairs_P2K, w_NK.T.expand(len(pairs_P2K), -1, -1)).flatten(0, 1)[:num_rows]
