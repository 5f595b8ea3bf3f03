"""Is the chosen implementation right? One MoE layer of a loaded model against arithmetic written twice.

In: a model, a layer, activations. Out: `Check`. The other side is a loop over tokens and their experts in
float64 over the dequantized weights, with its own softmax and top-k; it shares with the implementations only
the router logits, `dequantize` and `round_activation`. Slow on purpose: a few dozen tokens are enough. It reads the weights
as stored, so that packing to another layout is checked with the rest.

Shapes: T tokens, D hidden, F intermediate, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.errors import SelectionError
from fp4moe.formats import activation_format
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.quantize import dequantize, round_activation
from fp4moe.runtime.model import MixtralModel
from fp4moe.select import ChoiceByTokens
from fp4moe.select.rounding import roundoff_of

AGAINST = "float64 loop over tokens and their experts on the dequantized weights"
AGAINST_ROUNDED = AGAINST + ", rounded as the implementation says"


@dataclass(frozen=True, slots=True)
class Check:
    """relative_error: Frobenius norm of the difference over that of the right answer. tokens: those of the call."""

    relative_error: float
    bound: float
    passed: bool
    against: str
    tokens: int


def checked_layers(num_layers: int) -> tuple[int, ...]:
    """The first, the middle and the last layer: what a load checks, and `keep_rows` for it."""
    return tuple(sorted({0, num_layers // 2, num_layers - 1}))


def checked_tokens(model: MixtralModel, fewest: int) -> tuple[int, ...]:
    """A number of tokens for each implementation that some number takes: `fewest`, and as many beyond each crossover."""
    choice = _experts_choice(model)
    limits = {crossover.max_tokens for crossover in choice.crossovers} | {choice.call_tokens}
    return (fewest, *sorted(limit + fewest for limit in limits if limit is not None))


@torch.inference_mode()
def check_moe_layer(model: MixtralModel, layer: int, x_TD: Tensor) -> Check:
    """route and experts of one layer, as chosen for this model and this many tokens, on x_TD (normalized activations).

    Raises SelectionError where the layer is packed and its stored rows were not kept.
    """
    found = model.moe(layer, x_TD).double()
    chosen = _experts_choice(model).at(x_TD.shape[0]).chosen
    right = _naive_moe(model, layer, x_TD, chosen.load_rounded())
    error = float((found - right).norm() / right.norm())
    bound = error_bound(model, x_TD.shape[0])
    against = AGAINST_ROUNDED if chosen.rounds_weights else AGAINST
    return Check(error, bound, math.isfinite(error) and error <= bound, against, x_TD.shape[0])


def error_bound(model: MixtralModel, tokens: int) -> float:
    """Largest relative error that float32 accumulation explains, with what the implementation for `tokens` tokens rounds.

    Accumulation: each of K additions errs by at most 2^-24 of its partial sum; partial sums are on average no
    larger than the sum; if all err in one direction that is K * 2^-24 of the result. K is the longer of the
    two reductions and the errors of both reach the result: total = 2 * K * 2^-24. The order of the sums does not enter.

    Roundings that the implementation names (select/rounding.py), each of at most its roundoff u of a value:
weights: none here, for the loop takes them as rounded. Partial sums: every term of both products is off by u, so both
    results are by at most u: before += 2 u.
    x or h to BF16 before their activation format: nothing is added where that format is BF16 itself, for the same rounding
    is in the float64 loop; else the operand is off by u: before += u.
    y or an expert's share of it: u of the result, added at the end.

    Rounding to the activation format: an operand that is off by `before` may round to the neighbor instead, one
    step away. Steps are `step` of the value, so a share before / step of the elements does, each erring by `step`: root mean
    square sqrt(before * step). For a blocked format the block's scale may flip too, with the same product.

    Doubled for gate weights, SiLU and the tails.
    """
    rounds = _experts_choice(model).at(tokens).chosen.rounds
    activations = activation_format(model.precision.activations)
    before = 2 * max(model.config.hidden_size, model.config.intermediate_size) * 2.0**-24
    u = {stage: roundoff_of(rounds, stage, (model.precision.weights, activations.name)) for stage in "wxhy"}
    before += 2 * u["w"]
    if activations.name != "bf16":
        before += u["x"] + u["h"]
    # Largest distance of neighbors over their value: BF16 2^-7, E4M3 2^-3, E2M1 1/2 (1 to 1.5), float32 none.
    step = {32: 0.0, 16: 2.0**-7, 8: 2.0**-3, 4: 0.5}[activations.bits]
    return 2 * (before + math.sqrt(before * step) + u["y"])


def _experts_choice(model: MixtralModel) -> ChoiceByTokens:
    return next(choice for choice in model.choices if choice.op == "experts")


def _naive_moe(model: MixtralModel, layer: int, x_TD: Tensor, rounded: Callable[[QuantizedTensor], QuantizedTensor]) -> Tensor:
    stored = _stored_rows(model, layer)
    rows = RowExperts(rounded(stored.gate_up), rounded(stored.down))
    experts_TK, weights_TK = _naive_route(model.router_logits(layer, x_TD).double(), model.config.top_k)
    activations = model.precision.activations
    y_TD = torch.zeros_like(x_TD, dtype=torch.float64)
    for expert in sorted({expert for experts in experts_TK for expert in experts}):  # one in float64 at a time
        gate_FD, up_FD = dequantize(rows.gate_up[expert].to(x_TD.device)).double().chunk(2)
        down_DF = dequantize(rows.down[expert].to(x_TD.device)).double()
        for token, experts in enumerate(experts_TK):
            if expert in experts:
                x_D = round_activation(x_TD[token : token + 1], activations)[0].double()
                gate_F, up_F = gate_FD @ x_D, up_FD @ x_D
                h_F = gate_F / (1 + torch.exp(-gate_F)) * up_F
                h_F = round_activation(h_F.float().unsqueeze(0), activations)[0].double()
                y_TD[token] += weights_TK[token][experts.index(expert)] * (down_DF @ h_F)
    return y_TD


def _naive_route(logits_TE: Tensor, top_k: int) -> tuple[list[list[int]], list[list[float]]]:
    """(experts of each token, their weights), best first, of equal ones the lower id."""
    experts_TK, weights_TK = [], []
    for logits_E in logits_TE:
        probabilities = torch.exp(logits_E - logits_E.max()).tolist()
        best = sorted(range(len(probabilities)), key=lambda e: (-probabilities[e], e))[:top_k]
        total = sum(probabilities[expert] for expert in best)
        experts_TK.append(best)
        weights_TK.append([probabilities[expert] / total for expert in best])
    return experts_TK, weights_TK


def _stored_rows(model: MixtralModel, layer: int) -> RowExperts:
    weights = model.weights.layers[layer]
    if weights.rows is None:
        raise SelectionError(
            f"layer {layer}: its experts are packed as {weights.experts.layout} and their stored rows were not kept; "
            f"load the model with keep_rows=({layer},) to check it"
        )
    return weights.rows
