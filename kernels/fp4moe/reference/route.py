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
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """The experts of each token, and the permutation that sorts token-slots by expert, made when it is first asked for.

    ids_TK int32 or int64: best expert first, of equal ones the lower id. weights_TK float32: rows sum to 1.
    An implementation that sorts for itself never asks for the rest, and so pays nothing for it.
    """

    ids_TK: Tensor
    weights_TK: Tensor
    num_experts: int

    @cached_property
    def order_S(self) -> Tensor:
        """int64: sorted[i] = slots[order_S[i]], stable, so tokens of one expert keep their order."""
        return self.ids_TK.flatten().argsort(stable=True)

    @cached_property
    def inverse_S(self) -> Tensor:
        """int64: slots[s] = sorted[inverse_S[s]]."""
        inverse_S = torch.empty_like(self.order_S)
        inverse_S[self.order_S] = torch.arange(len(self.order_S), device=self.order_S.device)
        return inverse_S

    @cached_property
    def counts_E(self) -> Tensor:
        """int64: the histogram, slots an expert received."""
        return self.ids_TK.flatten().bincount(minlength=self.num_experts)

    @property
    def token_of_row_S(self) -> Tensor:
        """For each row of the sorted order, the token it belongs to."""
        return self.order_S // self.ids_TK.shape[1]

    def tokens(self, rows: slice) -> Routing:
        """The routing of some of the tokens."""
        return Routing(self.ids_TK[rows], self.weights_TK[rows], self.num_experts)

    def expert_rows(self) -> Iterator[tuple[int, slice]]:
        """(expert, its rows in the sorted order), experts that were hit only, in ascending order; waits for the device."""
        start = 0
        for expert, count in enumerate(self.counts_E.tolist()):
            if count:
                yield expert, slice(start, start + count)
            start += count


def route(logits_TE: Tensor, top_k: int) -> Routing:
    """Softmax over all experts in float32, top-k, renormalized over the top-k.

    The sort is stable and descending, so that ties have one right answer: the lower expert id.
    """
    probabilities_TE = logits_TE.float().softmax(dim=-1)
    sorted_TE, experts_TE = probabilities_TE.sort(dim=-1, descending=True, stable=True)
    ids_TK, weights_TK = experts_TE[:, :top_k].contiguous(), sorted_TE[:, :top_k]
    return Routing(ids_TK, weights_TK / weights_TK.sum(dim=-1, keepdim=True), logits_TE.shape[1])
