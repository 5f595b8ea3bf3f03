"""Arithmetic that gives the same bits on every device, so that a checkpoint is quantized to the same codes everywhere.

In and out: float tensors. Everything else in the quantizers is elementwise and rounded once by IEEE 754, or takes a maximum.
"""

import torch
from torch import Tensor


def divide(x: Tensor, divisor: float) -> Tensor:
    """x / divisor. By a Python number a GPU would multiply with the reciprocal, which rounds twice."""
    return x / torch.full((), divisor, dtype=x.dtype, device=x.device)


def sum_in_order(x_BK: Tensor) -> Tensor:
    """Sum over the last dimension, a power of two, by adding halves: the same bits on every device.

    `Tensor.sum` adds in an order of the device's own; of two scales with nearly equal errors a GPU then took another one than
    a CPU, and the same checkpoint had other codes there.
    """
    while x_BK.shape[-1] > 1:
        half = x_BK.shape[-1] // 2
        x_BK = x_BK[..., :half] + x_BK[..., half:]
    return x_BK.squeeze(-1)
