"""How evenly a router spreads its tokens, as the loss that trains it.

    loss = E * sum over e of (slots of expert e / T) * (mean probability of expert e)

In: router logits of one or more layers, concatenated along the tokens. Out: a scalar. K (experts a token)
when perfectly even, up to E for one expert taking all. Source: Switch Transformer eq. 4-6, extended to top-k
as `transformers` `load_balancing_loss_func` does. Differentiable through the probabilities only.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

from torch import Tensor

from fp4moe.reference.route import route


def load_balance_loss(logits_TE: Tensor, top_k: int) -> Tensor:
    """The standard auxiliary loss of a batch; not multiplied by a coefficient."""
    num_tokens, num_experts = logits_TE.shape
    slots_share_E = route(logits_TE.detach(), top_k).counts_E.float() / num_tokens
    mean_probability_E = logits_TE.float().softmax(dim=-1).mean(dim=0)
    return num_experts * (slots_share_E * mean_probability_E).sum()
