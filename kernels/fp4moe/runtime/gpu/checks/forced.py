"""The reference made to take the experts that the GPU engine took, and how far BF16 operands can move it.

In: a model, a sequence, its recorded experts. Out: float32 logits in the reference's arithmetic under exactly those experts,
and by how much the router would have preferred others. With the experts given, logits are a continuous function of the weights
and of roundings, so a bound holds for every token; without, a near-tie of the router moves them by a whole expert.

The bound is measured, for the model and the tokens that are judged. Both sides multiply the same weights; the engine rounds to
BF16 what goes into products and out of sublayers, which is 8 values a layer: normed and qkv, the softmax's shares, attention's
output twice, the experts' input twice, their output. A rounding moves a value by 2^-7 / sqrt(12) of the power of two below it,
2^-9.3 of the value (root mean square). Roundings are independent, so after L layers they have moved the residual stream by at
most sqrt(8 L + 1) 2^-9.3 of itself, before what layers make of it: norms, softmax and SiLU amplify some tokens more than
others, and FP8 activations fall on other sides of their steps. How much, the reference says itself: its embeddings are moved at
random by that whole share, the experts kept, and its logits move by so much. The bound is MARGIN times the largest of these.

Shapes: B sequences, T tokens each, N = B T, L layers, K experts a token, V vocabulary, E experts, D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from fp4moe.reference.route import Routing
from fp4moe.runtime.model import MixtralModel

BF16_RMS = 2.0**-9.3
ROUNDINGS_A_LAYER = 8
MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Forced:
    """logits [N, V]; router logits [L, N, E]; regret [L, N]: best router logit left out minus worst one taken, 0 where the
    router agrees."""

    logits_NV: Tensor
    router_LNE: Tensor
    regret_LN: Tensor


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most that any logit, and any router logit, of some tokens may differ."""

    logit: float
    router: float


def forced(model: MixtralModel, tokens_BT: Tensor, ids_NLK: Tensor) -> Forced:
    """The reference on whole sequences under the experts ids_NLK, a row a token."""
    device, regrets, routers = model.device, [], []
    ids_LNK = ids_NLK.to(device, torch.int64).transpose(0, 1)

    def route(logits_NE: Tensor, top_k: int) -> Routing:
        ids_NK = ids_LNK[len(regrets)]
        taken_NK = logits_NE.gather(1, ids_NK)
        left_NE = logits_NE.scatter(1, ids_NK, float("-inf"))
        regrets.append((left_NE.amax(-1) - taken_NK.amin(-1)).clamp(min=0))
        routers.append(logits_NE)
        return Routing(ids_NK.int(), taken_NK.softmax(-1), logits_NE.shape[1])

    other = MixtralModel(model.config, model.precision, model.weights, model.choices)
    other._ops = other._ops | {"route": route}
    logits_NV = other.score(tokens_BT).flatten(0, 1)
    return Forced(logits_NV, torch.stack(routers), torch.stack(regrets))


def bounds(model: MixtralModel, tokens_BT: Tensor, ids_NLK: Tensor, right: Forced) -> Bounds:
    """By moving the embeddings under `right`, which is `forced` of the same tokens and experts."""
    moved = forced(moved_model(model, moved_share(model.config.num_layers)), tokens_BT, ids_NLK)
    largest = [(a - b).abs().max() for a, b in ((moved.logits_NV, right.logits_NV), (moved.router_LNE, right.router_LNE))]
    return Bounds(*(MARGIN * float(value) for value in largest))


def moved_share(num_layers: int) -> float:
    """How far roundings alone move the residual stream after so many layers, as a share of itself, root mean square."""
    return sqrt(ROUNDINGS_A_LAYER * num_layers + 1) * BF16_RMS


def moved_model(model: MixtralModel, share: float) -> MixtralModel:
    """The model with each value of its embeddings moved by a seeded Gaussian of `share` of itself; the head stays."""
    weights = model.weights
    embedding_VD = weights.embedding_VD.float()
    generator = torch.Generator().manual_seed(0)
    noise_VD = torch.randn(embedding_VD.shape, generator=generator).to(embedding_VD.device)
    head_VD = weights.embedding_VD if weights.head_VD is None else weights.head_VD
    moved = replace(weights, embedding_VD=embedding_VD * (1 + share * noise_VD), head_VD=head_VD)
    return MixtralModel(model.config, model.precision, moved, model.choices)


def chosen_gaps(logits_TV: Tensor, chosen_T: Tensor) -> Tensor:
    """By how much each chosen token's logit is below the best, [T]."""
    return logits_TV.amax(-1) - logits_TV.gather(1, chosen_T.to(logits_TV.device).unsqueeze(1)).squeeze(1)
