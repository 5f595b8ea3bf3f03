"""The two products of a SiLU-gated expert, batched by expert.

    h[s] = silu(gate_e x[t]) * (up_e x[t])       slot s of token t, routed to expert e
    y[t] = sum over k of weight[t, k] * down_e h[slot (t, k)]

In: activations, stored weights (layouts.py), a `Routing`. Out: float32; `experts`, which is both products, gives the dtype
of its input. `activations` names how the
left operand of each product is rounded first (formats.ACTIVATION_FORMATS); products accumulate in float32.
Only experts that were hit are dequantized, one at a time. The intermediate stays in expert order; `down`
undoes the permutation.

Shapes: T tokens, K experts a token, S = T * K rows sorted by expert, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe import ranges
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.quantize import dequantize, round_activation
from fp4moe.reference.product import product
from fp4moe.reference.route import Routing


def experts(x_TD: Tensor, packed: RowExperts, routing: Routing, activations: str) -> Tensor:
    """Both products of one layer: x [T, D] -> y_TD in the dtype of x."""
    with ranges.range("permute"):
        _ = routing.order_S, routing.inverse_S, routing.counts_E  # kept by the routing
    with ranges.range("gate-up GEMM"):
        h_SF = gate_up(x_TD, packed.gate_up, routing, activations)
    with ranges.range("down GEMM"):
        y_SD = down_rows(h_SF, packed.down, routing, activations)
    with ranges.range("combine"):
        return combine(y_SD, routing).to(x_TD.dtype)


def gate_up(x_TD: Tensor, w: QuantizedTensor, routing: Routing, activations: str) -> Tensor:
    """x [T, D], w [E, 2F, D] (gate rows first, then up rows) -> h_SF, rows sorted by expert."""
    x_SD = round_activation(x_TD, activations)[routing.token_of_row_S]
    h_SF = x_SD.new_empty(x_SD.shape[0], w.shape[-2] // 2)
    for expert, rows in routing.expert_rows():
        gate, up = product(x_SD[rows], dequantize(w[expert])).chunk(2, dim=-1)
        torch.mul(F.silu(gate), up, out=h_SF[rows])
    return h_SF


def down(h_SF: Tensor, w: QuantizedTensor, routing: Routing, activations: str) -> Tensor:
    """h [S, F] sorted by expert, w [E, D, F] -> y_TD, weighted and summed over the K slots of a token."""
    return combine(down_rows(h_SF, w, routing, activations), routing)


def down_rows(h_SF: Tensor, w: QuantizedTensor, routing: Routing, activations: str) -> Tensor:
    """h [S, F], w [E, D, F] -> y_SD, both sorted by expert, not yet weighted."""
    h_SF = round_activation(h_SF, activations)
    y_SD = h_SF.new_empty(h_SF.shape[0], w.shape[-2])
    for expert, rows in routing.expert_rows():
        y_SD[rows] = product(h_SF[rows], dequantize(w[expert]))
    return y_SD


def combine(y_SD: Tensor, routing: Routing) -> Tensor:
    """y [S, D] sorted by expert -> y_TD, weighted by the router and summed over the K slots of a token."""
    y_TKD = y_SD[routing.inverse_S].unflatten(0, routing.ids_TK.shape)
    return (y_TKD * routing.weights_TK.unsqueeze(-1)).sum(dim=1)
