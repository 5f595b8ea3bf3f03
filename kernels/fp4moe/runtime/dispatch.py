"""A choice as a function: each call goes to the implementation for its number of tokens.

In: `ChoiceByTokens`. Out: the function that the model calls. The number of tokens is the length of a tensor, which the host
knows: nothing is waited for. A row that was forced beyond its limit is called piece by piece, which is exact, since a token's
result does not depend on its neighbors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fp4moe.select import ChoiceByTokens


def load_operation(choice: ChoiceByTokens) -> Callable[..., Any]:
    """Import what was chosen; the function has the operation's signature, tokens in the first axis of its first argument."""
    targets = tuple((crossover.max_tokens, crossover.choice.chosen.load()) for crossover in choice.crossovers)
    if len(targets) == 1:
        return targets[0][1] if choice.call_tokens is None else _in_pieces(targets[0][1], choice.call_tokens)

    def call(x: Tensor, *arguments: Any) -> Any:
        tokens = x.shape[0]
        function = next(function for limit, function in targets if limit is None or tokens <= limit)
        return function(x, *arguments)

    return call


def _in_pieces(experts: Callable[..., Tensor], call_tokens: int) -> Callable[..., Tensor]:
    def call(x_TD: Tensor, packed: Any, routing: Any, activations: str) -> Tensor:
        if x_TD.shape[0] <= call_tokens:
            return experts(x_TD, packed, routing, activations)
        pieces = [slice(start, start + call_tokens) for start in range(0, x_TD.shape[0], call_tokens)]
        return torch.cat([experts(x_TD[rows], packed, routing.tokens(rows), activations) for rows in pieces])

    return call
