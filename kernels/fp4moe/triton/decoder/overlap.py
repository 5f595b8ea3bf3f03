"""Programmatic dependent launch: a kernel that starts while the one before it still runs, and waits only where it must.

Begin with `let_next_start`, then do what depends on no kernel of this step (weights into registers, keys of earlier tokens),
then `wait_for_inputs`, which returns when the kernel before has ended and its writes are seen. Needs sm_90 and a launch with
`**launch_options(tensor)`; elsewhere IS_ON is false and nothing is done. Only weights, and what earlier steps wrote, may be
read before the wait.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from fp4moe.triton.bits import IS_INTERPRETED

_FIRST_CAPABILITY = (9, 0)


@triton.jit
def let_next_start(IS_ON: tl.constexpr):
    """The next kernel may take what this one leaves free of the GPU; it still waits for this one's end."""
    if IS_ON:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(IS_ON: tl.constexpr):
    """Until the kernel before has ended."""
    if IS_ON:
        gdc_wait()


def launch_options(tensor: Tensor) -> dict[str, bool]:
    """What a launch on the tensor's device takes: the constant IS_ON, and Triton's own option."""
    is_on = tensor.is_cuda and not IS_INTERPRETED and _has_overlap(tensor.device)
    return {"IS_ON": is_on, "launch_pdl": is_on}


@cache
def _has_overlap(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY
