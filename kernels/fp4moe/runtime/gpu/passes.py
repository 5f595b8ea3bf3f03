"""A decoder's layers on a GPU: token ids to normed hidden states, and those to logits.

In: a loaded `MixtralModel` (its weights and its chosen experts), tokens, an attention of this step. Out: BF16 hidden states
after the last norm; float32 logits. The residual stream is float32; operands of products are BF16, sums float32. Nothing waits
for the host, so that a pass can be captured. Keeps the model's arithmetic where it differs from the reference's to BF16
operands alone: norms, router, softmax and rotary tables are float32, as there.

Shapes: T tokens of a step, D hidden, N = (H + 2 G) d, E experts, K experts a token, L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.reference.route import Routing
from fp4moe.runtime.dispatch import load_operation
from fp4moe.runtime.layers import rotary_tables
from fp4moe.runtime.model import MixtralModel
from fp4moe.triton.decoder.norm_route import First, Routed, norm_route
from fp4moe.triton.decoder.thin_linear import MAX_TOKENS, thin_linear

Attend = Callable[[int, Tensor], Tensor]
"""(layer, qkv [T, N] before rotation) -> attention output [T, H d]."""


@dataclass(frozen=True, slots=True)
class RoutingPlan:
    """Where a step's expert ids are kept, uint8 [L, T or more, K]; and the ids that are imposed on it, int32 [R, L, K]."""

    recorded_LTK: Tensor
    imposed_RLK: Tensor | None
    counter: Tensor


class DecoderPasses:
    """The weights of one model as passes; immutable but for the imposed routing."""

    def __init__(self, model: MixtralModel, *, max_context: int) -> None:
        self.config, self.device = model.config, model.device
        self._weights, self._activations = model.weights, model.precision.activations
        self._experts = load_operation(next(choice for choice in model.choices if choice.op == "experts"))
        self.max_context = max_context
        self.cos_sin = _tables(model, max_context)
        self.imposed_RLK: Tensor | None = None
        self.counter = torch.zeros(1, dtype=torch.int32, device=self.device)

    def recorded(self, num_tokens: int) -> RoutingPlan:
        """A fresh place for the ids of a step."""
        shape = (self.config.num_layers, num_tokens, self.config.top_k)
        return self.recorded_in(torch.empty(shape, dtype=torch.uint8, device=self.device))

    def recorded_in(self, recorded_LTK: Tensor) -> RoutingPlan:
        """The ids of a step go there."""
        return RoutingPlan(recorded_LTK, self.imposed_RLK, self.counter)

    def hidden(self, tokens: Tensor, slots_T: Tensor | None, num_tokens: int, attend: Attend, plan: RoutingPlan) -> Tensor:
        """BF16 [T, D] after the last norm. `tokens` are ids [T], or the last token of every slot, taken by `slots_T`."""
        config, eps = self.config, self.config.rms_norm_eps
        residual_TD = self._empty(num_tokens, config.hidden_size, torch.float32)
        normed_TD = self._empty(num_tokens, config.hidden_size)
        routing = Routing(
            self._empty(num_tokens, config.top_k, torch.int32), self._empty(num_tokens, config.top_k, torch.float32),
            config.num_experts,
        )  # fmt: skip
        first, delta_TD = First(self._weights.embedding_VD, tokens, slots_T), None
        for index, layer in enumerate(self._weights.layers):
            with ranges.range("layer", layer=index):
                with ranges.range("norm", layer=index):
                    norm_route(residual_TD, delta_TD, layer.attention_norm_D, normed_TD, eps=eps, first=first)
                attended_TD = self._attention(index, layer, normed_TD, attend)
                with ranges.range("route", layer=index):
                    places = routing.ids_TK, routing.weights_TK, plan.recorded_LTK
                    routed = Routed(layer.router_ED, *places, index, plan.imposed_RLK, plan.counter)
                    norm_route(residual_TD, attended_TD, layer.moe_norm_D, normed_TD, eps=eps, routed=routed)
                with ranges.range("experts", layer=index, tokens=num_tokens):
                    fresh = Routing(routing.ids_TK, routing.weights_TK, config.num_experts)
                    delta_TD = self._experts(normed_TD, layer.experts, fresh, self._activations)
            first = None
        with ranges.range("norm"):
            norm_route(residual_TD, delta_TD, self._weights.final_norm_D, normed_TD, eps=eps)
            if plan.imposed_RLK is not None:
                plan.counter.add_(num_tokens)
        return normed_TD

    def logits(self, normed_TD: Tensor) -> Tensor:
        """float32 [T, V]."""
        with ranges.range("head"):
            head_VD = self._weights.embedding_VD if self._weights.head_VD is None else self._weights.head_VD
            return self._linear(normed_TD, head_VD, torch.float32)

    def _attention(self, index: int, layer, normed_TD: Tensor, attend: Attend) -> Tensor:
        with ranges.range("attention projections", layer=index):
            qkv_TN = self._linear(normed_TD, layer.qkv_ND)
        attended_TD = attend(index, qkv_TN)
        with ranges.range("attention projections", layer=index):
            return self._linear(attended_TD, layer.output_DN)

    def _linear(self, x_TK: Tensor, w_NK: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        if len(x_TK) <= MAX_TOKENS:
            y_TN = self._empty(len(x_TK), len(w_NK), dtype)
            thin_linear(x_TK, w_NK, y_TN)
            return y_TN
        if dtype == torch.bfloat16 or x_TK.device.type != "cuda":
            return torch.mm(x_TK, w_NK.T).to(dtype) if dtype == torch.bfloat16 else x_TK.float() @ w_NK.float().T
        return torch.mm(x_TK, w_NK.T, out_dtype=dtype)

    def _empty(self, rows: int, columns: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(rows, columns, dtype=dtype, device=self.device)


def _tables(model: MixtralModel, max_context: int) -> tuple[Tensor, Tensor]:
    """cos and sin float32 [C, d / 2]: the halves of the reference's tables, which are alike."""
    positions = torch.arange(max_context, device=model.device)
    half = model.config.head_dim // 2
    tables = rotary_tables(positions, model.config.head_dim, model.config.rope_theta)
    return tuple(table[:, 0, :half].contiguous() for table in tables)
