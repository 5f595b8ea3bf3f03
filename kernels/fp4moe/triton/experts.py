"""The experts of a MoE layer in Triton, from the weights as they are stored (layout "rows").

    h[s] = silu(gate_e x[t]) * (up_e x[t]);  y[t] = sum over k of weight[t, k] * down_e h[slot (t, k)]

In: x [T, D] float32 or BF16 on CUDA, `RowExperts`, a Routing. Out: y [T, D] in x's dtype. Products accumulate in float32; x
and h are rounded to the activation format, as in the reference. NVFP4 and MXFP4 weights with FP8 activations multiply on
BF16 tensor cores, exactly (see gemm.py): they save no time over BF16 activations. Seven launches at most, no host
synchronization, deterministic. NaN in a token makes that token's output NaN and no other's.

Shapes: T tokens, K experts a token, S = T * K slots, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.errors import SelectionError
from fp4moe.layouts import RowExperts
from fp4moe.reference.route import Routing
from fp4moe.select.capability import Capability
from fp4moe.triton.combine import combine
from fp4moe.triton.device import check_device, on_device
from fp4moe.triton.gemm_launch import FP4, Rows, gated_product, weighted_product
from fp4moe.triton.rows import rounded_rows
from fp4moe.triton.sort import sort_slots
from fp4moe.triton.tiles import tile_for

PAIRS = (("nvfp4", "bf16"), ("mxfp4", "bf16"), ("nvfp4", "fp8"), ("mxfp4", "fp8"), ("fp8", "fp8"), ("bf16", "bf16"))
"""(weights, activations) that there are kernels for."""


def experts(x_TD: Tensor, packed: RowExperts, routing: Routing, activations: str) -> Tensor:
    """y [T, D]; SelectionError for a tensor off CUDA, another dtype than float32 and BF16, or formats outside PAIRS."""
    weights = packed.down.format
    _check(x_TD, packed, weights, activations)
    num_tokens, top_k = routing.ids_TK.shape
    if num_tokens == 0:
        return torch.empty_like(x_TD)
    with on_device(x_TD):
        with ranges.range("permute"):
            tile = tile_for(weights, _capability(str(x_TD.device)), num_tokens * top_k / packed.num_experts)
            tiles = sort_slots(routing.ids_TK, packed.num_experts, tile.block_m)
            storage = torch.float8_e4m3fn if weights == "fp8" else torch.bfloat16
            rows, scales = rounded_rows(x_TD, activations, storage, permute=weights in FP4)
        with ranges.range("gate-up GEMM"):
            h = gated_product(Rows(rows, scales, top_k), packed.gate_up, tiles, activations, tile)
        with ranges.range("down GEMM"):
            if activations == "fp8":
                h, scales = rounded_rows(h, activations, storage, permute=False)
            router_S = routing.weights_TK.contiguous().view(-1)
            parts = weighted_product(Rows(h, scales, 1), packed.down, tiles, router_S, activations=activations, tile=tile)
        with ranges.range("combine"):
            return combine(parts, top_k, x_TD.dtype)


def _check(x_TD: Tensor, packed: RowExperts, weights: str, activations: str) -> None:
    check_device(x_TD, "triton experts")
    if (weights, activations) not in PAIRS:
        pairs = ", ".join(f"{w} x {a}" for w, a in PAIRS)
        raise SelectionError(f"triton experts: formats must be one of {pairs} (got {weights} x {activations})")
    if x_TD.dtype not in (torch.float32, torch.bfloat16) or x_TD.shape[1] != packed.hidden:
        raise SelectionError(
            f"triton experts: x must be float32 or bfloat16 [T, {packed.hidden}] (got {x_TD.dtype} {tuple(x_TD.shape)})"
        )


@cache
def _capability(device: str) -> Capability:
    return Capability.of_device(device)
