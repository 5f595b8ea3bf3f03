"""Which experts each token goes to, and the order that brings each expert's tokens together.

    probability[t, e] = softmax(logits[t])[e]
    weight[t, k]      = probability of the k-th best expert / sum of the top-k probabilities

In: router logits. Out: `Routing`. Source: Mixtral (renormalized top-k of a softmax over all experts), as
`transformers.models.mixtral` computes it. Computes no expert and knows no capacity limit: no token is ever
dropped.

Shapes: T tokens, E experts, K experts a token, S = T * K token-slots; slot s belongs to token s // K.

Example, T = 3, K = 1, ids = [[1], [0], [1]]: order_S = [1, 0, 2], inverse_S = [1, 0, 2], counts_E = [1, 2].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Routing:
    """The experts of each token and the permutation that sorts token-slots by expert.

    ids_TK int64: best expert first, of equal ones the lower id. weights_TK float32: rows sum to 1.
    order_S int64: sorted[i] = slots[order_S[i]], stable, so tokens of one expert keep their order.
    inverse_S int64: slots[s] = sorted[inverse_S[s]]. counts_E int64: the histogram, slots an expert received.
    """

    ids_TK: Tensor
    weights_TK: Tensor
    order_S: Tensor
    inverse_S: Tensor
    counts_E: Tensor

    @property
    def token_of_row_S(self) -> Tensor:
        """For each row of the sorted order, the token it belongs to."""
        return self.order_S // self.ids_TK.shape[1]

    def expert_rows(self) -> Iterator[tuple[int, slice]]:
        """(expert, its rows in the sorted order), experts that were hit only, in ascending order."""
        start = 0
        for expert, count in enumerate(self.counts_E.tolist()):
            if count:
                yield expert, slice(start, start + count)
            start += count


def route(logits_TE: Tensor, top_k: int) -> Routing:
    """Softmax over all experts in float32, top-k, renormalized over the top-k; sorted by expert.

    The sort is stable and descending, so that ties have one right answer: the lower expert id.
    """
    num_experts = logits_TE.shape[1]
    probabilities_TE = logits_TE.float().softmax(dim=-1)
    sorted_TE, experts_TE = probabilities_TE.sort(dim=-1, descending=True, stable=True)
    ids_TK, weights_TK = experts_TE[:, :top_k].contiguous(), sorted_TE[:, :top_k]
    weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
    ids_S = ids_TK.flatten()
    order_S = ids_S.argsort(stable=True)
    inverse_S = torch.empty_like(order_S)
    inverse_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    return Routing(ids_TK, weights_TK, order_S, inverse_S, ids_S.bincount(minlength=num_experts))
