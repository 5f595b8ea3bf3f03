"""Programmatic dependent launch: a kernel that starts while the one before it still runs, and waits only where it must.

Begin with `let_next_start`, then do what depends on no kernel of this step (weights into registers, keys of earlier tokens),
then `wait_for_inputs`, which returns when the kernel before has ended and its writes are seen. Needs sm_90 and a launch with
`**launch_options(tensor)`; elsewhere OVERLAP is 0 and nothing is done. Only weights, and what earlier steps wrote,
may be read before the wait.

OVERLAP says when the next kernel may start: 1 with this one (best for one token, by 2.6 % of a step), 2 once this one's inputs
are there, so that only one waits behind another. For more tokens that is better (3.4 % at 8 requests, 1.5 % at 32, H100):
programs of later kernels would be laid unevenly on what the running ones leave.
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
def let_next_start(OVERLAP: tl.constexpr):
    """The next kernel may take what this one leaves free of the GPU; it still waits for this one's end."""
    if OVERLAP == 1:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(OVERLAP: tl.constexpr):
    """Until the kernel before has ended."""
    if OVERLAP > 0:
        gdc_wait()
    if OVERLAP == 2:
        gdc_launch_dependents()


def launch_options(tensor: Tensor) -> dict[str, int | bool]:
    """What a launch takes for a tensor with a row a token or request: the constant OVERLAP, and Triton's own option."""
    is_on = tensor.is_cuda and not IS_INTERPRETED and _has_overlap(tensor.device)
    return {"OVERLAP": is_on * (1 if tensor.shape[0] == 1 else 2), "launch_pdl": is_on}


@cache
def _has_overlap(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY
