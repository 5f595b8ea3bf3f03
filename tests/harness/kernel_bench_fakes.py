"""Implementations of `experts` for tests of the bench: one right, the others wrong in a way of their own.

In and out: as the selection table asks. All of them run anywhere, through the reference.
"""

import torch

from fp4moe.errors import Fp4MoeError
from fp4moe.layouts import RowExperts
from fp4moe.reference import experts
from fp4moe.select import Implementation
from fp4moe.select.conditions import AnyDevice


def right(x_TD, packed, routing, activations):
    return experts(x_TD, packed, routing, activations)


def forgets_router_weights(x_TD, packed, routing, activations):
    even = torch.full_like(routing.weights_TK, 1 / routing.weights_TK.shape[1])
    return experts(x_TD, packed, type(routing)(routing.ids_TK, even, routing.num_experts), activations)


def swallows_nan(x_TD, packed, routing, activations):
    return experts(x_TD.nan_to_num(), packed, routing, activations)


def one_token_wrong(x_TD, packed, routing, activations):
    """Right up to 64 tokens, so only the check of the timed run sees it."""
    y_TD = experts(x_TD, packed, routing, activations)
    if len(y_TD) > 64:
        y_TD[-1] *= 1.05
    return y_TD


def raises(x_TD, packed, routing, activations):
    raise Fp4MoeError("launch failed with CUDA error 9")


def out_of_memory_at_128(x_TD, packed, routing, activations):
    if len(x_TD) == 128:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
    return experts(x_TD, packed, routing, activations)


def pack_in_tiles(gate_up, down):
    """A layout of its own, of the same content."""
    return RowExperts(gate_up, down)


def pack_refuses(gate_up, down):
    raise Fp4MoeError("scales below 2^-9 have no code in this layout")


def pack_out_of_memory(gate_up, down):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


def implementation(function, **changes) -> Implementation:
    """A row of the table for a function of this module."""
    row = {
        "op": "experts", "name": function.__name__, "weight_formats": ("nvfp4", "mxfp4"), "activation_formats": ("bf16",),
        "capabilities": (AnyDevice(),), "target": f"kernel_bench_fakes:{function.__name__}",
    }  # fmt: skip
    return Implementation(**row | changes)
