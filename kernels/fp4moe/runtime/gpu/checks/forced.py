"""The reference made to take the experts that the GPU engine took, and how far BF16 operands can move it.

In: a model, a sequence, its recorded experts. Out: float32 logits in the reference's arithmetic under exactly those experts,
and by how much the router would have preferred others. With the experts given, logits are a continuous function of the weights
and of roundings, so a bound holds for every token; without, a near-tie of the router moves them by a whole expert.

The bound. Both sides multiply the same weights; the engine rounds to BF16 what goes into products and out of sublayers, which
is 8 values a layer: normed and qkv, the softmax's shares, attention's output twice, the experts' input twice, their output. A
rounding moves a value by 2^-7 / sqrt(12) of the power of two below it, 2^-9.3 of the value (root mean square). Roundings are
independent and each concerns a part of the residual stream, so after L layers that has moved by at most sqrt(8 L + 1) 2^-9.3
of itself. FP8 activations are rounded by both sides, but from values that differ by d: where they fall on two sides of a step
of 2^-3, sqrt(2^-3 d) (triton/check.py), for x and for h, d being what the stream has moved, on the experts' branch: one of 2
L + 1 that the stream is the sum of, so that part of its square. A row w of the head (or the router) times such a stream,
normed to the norm's weights, moves by a Gaussian of deviation that share times rms(norm) |w|; the largest of N by sqrt(2 ln
N) deviations. Factor 2: what layers amplify. (Measured on pocket-mixtral in NVFP4: a seventh of a logit's deviation, and two
fifths of the bound at most.)

Shapes: T tokens, L layers, K experts a token, V vocabulary, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from fp4moe.reference.route import Routing
from fp4moe.runtime.model import MixtralModel

BF16_RMS = 2.0**-9.3
ROUNDINGS_A_LAYER = 8
FP8_STEP = 2.0**-3
AMPLIFIED = 2.0


@dataclass(frozen=True, slots=True)
class Forced:
    """logits [T, V]; regret [L, T]: best router logit left out minus worst one taken, 0 where the router agrees."""

    logits_TV: Tensor
    regret_LT: Tensor


def forced(model: MixtralModel, tokens_T: Tensor, ids_TLK: Tensor) -> Forced:
    """The reference on one sequence under the experts ids_TLK."""
    device, regrets = model.device, []
    ids_LTK = ids_TLK.to(device, torch.int64).transpose(0, 1)

    def route(logits_TE: Tensor, top_k: int) -> Routing:
        ids_TK = ids_LTK[len(regrets)]
        taken_TK = logits_TE.gather(1, ids_TK)
        left_TE = logits_TE.scatter(1, ids_TK, float("-inf"))
        regrets.append((left_TE.amax(-1) - taken_TK.amin(-1)).clamp(min=0))
        return Routing(ids_TK.int(), taken_TK.softmax(-1), logits_TE.shape[1])

    other = MixtralModel(model.config, model.precision, model.weights, model.choices)
    other._ops = other._ops | {"route": route}
    logits_TV = other.score(tokens_T.unsqueeze(0))[0]
    return Forced(logits_TV, torch.stack(regrets))


def moved_share(num_layers: int, *, is_fp8: bool) -> float:
    """How far the residual stream has moved after the last layer, as a share of itself, root mean square."""
    squared = BF16_RMS**2
    for _ in range(num_layers):
        squared += ROUNDINGS_A_LAYER * BF16_RMS**2
        if is_fp8:
            squared += 2 * FP8_STEP * sqrt(squared) / (2 * num_layers + 1)
    return sqrt(squared)


def _largest(share: float, norm_D: Tensor, rows_ND: Tensor, count: int) -> float:
    deviation = share * float(norm_D.float().square().mean().sqrt()) * float(rows_ND.float().norm(dim=1).max())
    return AMPLIFIED * sqrt(2 * log(max(count, 2))) * deviation


def logit_bound(model: MixtralModel, num_tokens: int) -> float:
    """Most that any logit of so many tokens may differ."""
    weights = model.weights
    head_VD = weights.embedding_VD if weights.head_VD is None else weights.head_VD
    share = moved_share(model.config.num_layers, is_fp8=model.precision.activations == "fp8")
    return _largest(share, weights.final_norm_D, head_VD, num_tokens * len(head_VD))


def router_bound(model: MixtralModel, num_tokens: int) -> float:
    """Most that any router logit of so many tokens may differ."""
    share = moved_share(model.config.num_layers, is_fp8=model.precision.activations == "fp8")
    count = num_tokens * model.config.num_experts * model.config.num_layers
    return max(_largest(share, layer.moe_norm_D, layer.router_ED, count) for layer in model.weights.layers)


def chosen_gaps(logits_TV: Tensor, chosen_T: Tensor) -> Tensor:
    """By how much each chosen token's logit is below the best, [T]."""
    return logits_TV.amax(-1) - logits_TV.gather(1, chosen_T.to(logits_TV.device).unsqueeze(1)).squeeze(1)
