"""Where a Triton kernel may run: on CUDA, or anywhere under Triton's interpreter.

In: a tensor. Out: a check in words, and the context that launches on the tensor's device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fp4moe.errors import SelectionError
from fp4moe.triton.bits import IS_INTERPRETED


def check_device(tensor: Tensor, name: str) -> None:
    """SelectionError unless `tensor` lies where a kernel can read it; `name` is how the error calls the operation."""
    if not tensor.is_cuda and not IS_INTERPRETED:
        raise SelectionError(
            f"{name}: needs a tensor on CUDA (got one on {tensor.device}); move it there, choose the reference, "
            "or set TRITON_INTERPRET=1 before Triton is imported to try the kernel slowly on a CPU"
        )


def on_device(tensor: Tensor) -> AbstractContextManager:
    """Makes the tensor's GPU the current one, which is where Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
