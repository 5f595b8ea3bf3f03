"""Is the chosen implementation right? One MoE layer of a loaded model against arithmetic written twice.

In: a model, a layer, activations. Out: `Check`. The other side is a loop over tokens and their experts in
float64 over the dequantized weights, with its own softmax and top-k; it shares with the implementations only
the router logits, `dequantize` and `round_activation`. Slow on purpose: a few dozen tokens are enough.

Shapes: T tokens, D hidden, F intermediate, E experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.formats import activation_format
from fp4moe.quantize import dequantize, round_activation
from fp4moe.runtime.model import MixtralModel

AGAINST = "float64 loop over tokens and their experts on the dequantized weights"


@dataclass(frozen=True, slots=True)
class Check:
    """relative_error: Frobenius norm of the difference over that of the right answer."""

    relative_error: float
    bound: float
    passed: bool
    against: str


@torch.inference_mode()
def check_moe_layer(model: MixtralModel, layer: int, x_TD: Tensor) -> Check:
    """route, gate_up and down of one layer, as chosen for this model, on x_TD (normalized activations)."""
    found = model.moe(layer, x_TD).double()
    right = _naive_moe(model, layer, x_TD)
    error = float((found - right).norm() / right.norm())
    bound = error_bound(model)
    return Check(error, bound, math.isfinite(error) and error <= bound, AGAINST)


def error_bound(model: MixtralModel) -> float:
    """Largest relative error that float32 accumulation explains.

    Accumulation: each of K additions errs by at most 2^-24 of its partial sum; partial sums are on average no
    larger than the sum; if all err in one direction that is K * 2^-24 of the result. K is the longer of the
    two reductions and the errors of both reach the result: total = 2 * K * 2^-24.

    Rounding of h: an h that is off by `total` may round to the neighbor instead, one step away. Steps are
    `step` of the value, so a share total / step of the elements does, each erring by `step`: root mean square
    sqrt(total * step). For a blocked format the block's scale may flip too, with the same product.

    Doubled for gate weights, SiLU and the tails.
    """
    longest = max(model.config.hidden_size, model.config.intermediate_size)
    total = 2 * longest * 2.0**-24
    # Largest distance of neighbors over their value: BF16 2^-7, E4M3 2^-3, E2M1 1/2 (1 to 1.5), float32 none.
    step = {32: 0.0, 16: 2.0**-7, 8: 2.0**-3, 4: 0.5}[activation_format(model.precision.activations).bits]
    return 2 * (total + math.sqrt(total * step))


def _naive_moe(model: MixtralModel, layer: int, x_TD: Tensor) -> Tensor:
    weights, activations = model.weights.layers[layer], model.precision.activations
    gate_up_END = dequantize(weights.gate_up).double()
    down_EDF = dequantize(weights.down).double()
    num_gate = gate_up_END.shape[1] // 2
    logits_TE = model.router_logits(layer, x_TD).double()
    y_TD = torch.zeros_like(x_TD, dtype=torch.float64)
    for token in range(x_TD.shape[0]):
        probabilities_E = torch.exp(logits_TE[token] - logits_TE[token].max())
        experts = sorted(range(len(probabilities_E)), key=lambda e: (-float(probabilities_E[e]), e))[: model.config.top_k]
        total = sum(float(probabilities_E[expert]) for expert in experts)
        x_D = round_activation(x_TD[token : token + 1], activations)[0].double()
        for expert in experts:
            gate_F, up_F = gate_up_END[expert, :num_gate] @ x_D, gate_up_END[expert, num_gate:] @ x_D
            h_F = gate_F / (1 + torch.exp(-gate_F)) * up_F
            h_F = round_activation(h_F.float().unsqueeze(0), activations)[0].double()
            y_TD[token] += float(probabilities_E[expert]) / total * (down_EDF[expert] @ h_F)
    return y_TD
