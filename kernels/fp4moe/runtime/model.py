"""A Mixtral decoder: embedding, L layers of attention and experts, head.

In: token ids. Out: float32 logits. Arithmetic is float32 on the stored weights; the experts' operands are
rounded as the precision's activation format says. The MoE operations are the implementations that selection
chose, by the number of tokens of each call (dispatch.py). Reads no files and keeps no request state; see load.py and engine.py.

Shapes: N tokens of a step, B sequences or requests, T tokens a sequence, D hidden, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.precision import Precision
from fp4moe.runtime.attention import NewTokens, PromptIntoCache, WholeSequences
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.dispatch import load_operation
from fp4moe.runtime.kv_cache import KVCache
from fp4moe.runtime.layers import linear, rms_norm, rotary_tables, rotate
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.runtime.weights import LayerWeights, ModelWeights
from fp4moe.select import ChoiceByTokens


class MixtralModel:
    """Weights, config and chosen implementations; immutable after construction."""

    def __init__(
        self, config: MixtralConfig, precision: Precision, weights: ModelWeights, choices: tuple[ChoiceByTokens, ...]
    ) -> None:
        self.config = config
        self.precision = precision
        self.weights = weights
        self.choices = choices
        self._ops = {choice.op: load_operation(choice) for choice in choices}

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.weights.embedding_VD.device

    @property
    def weights_sha256(self) -> str:
        """Hash over all stored bytes, whatever layout they are held in."""
        return self.weights.sha256

    def memory_bytes(self) -> dict[str, int]:
        """Bytes of the weights by cause, see ModelWeights."""
        return self.weights.memory_bytes()

    @torch.inference_mode()
    def score(self, tokens_BT: Tensor, recorder: RoutingRecorder | None = None) -> Tensor:
        """Causal logits of whole sequences, [B, T, V], no cache. Records phase "score", `request` = row."""
        batch, length = tokens_BT.shape
        if recorder is not None:
            rows = torch.arange(batch).repeat_interleave(length).tolist()
            recorder.begin_step("score", batch * length, recorder.num_steps, requests=rows)
        positions_N = torch.arange(length, device=self.device).repeat(batch)
        x_ND = self._run_layers(tokens_BT.flatten().to(self.device), positions_N, WholeSequences(batch), recorder)
        return self._logits(x_ND).unflatten(0, (batch, length))

    @torch.inference_mode()
    def prefill(self, tokens_T: Tensor, cache: KVCache, slot: int, recorder: RoutingRecorder | None = None) -> Tensor:
        """Write a prompt into a slot; logits [V] after its last token."""
        positions_T = torch.arange(len(tokens_T), device=self.device)
        x_TD = self._run_layers(tokens_T, positions_T, PromptIntoCache(cache, slot), recorder)
        return self._logits(x_TD[-1:])[0]

    @torch.inference_mode()
    def decode(
        self,
        tokens_B: Tensor,
        positions_B: Tensor,
        slots_B: Tensor,
        cache: KVCache,
        *,
        recorder: RoutingRecorder | None = None,
    ) -> Tensor:
        """One token of each request, at its position in its slot; logits [B, V]."""
        with ranges.range("prepare"):
            attend = NewTokens.of(cache, slots_B, positions_B)
        return self._logits(self._run_layers(tokens_B, positions_B, attend, recorder))

    def moe(self, layer: int, x_ND: Tensor, recorder: RoutingRecorder | None = None) -> Tensor:
        """The experts of one layer on normalized activations [N, D], through the chosen implementations."""
        weights, activations = self.weights.layers[layer], self.precision.activations
        with ranges.range("route", layer=layer):
            routing = self._ops["route"](self.router_logits(layer, x_ND), self.config.top_k)
            if recorder is not None:
                recorder.record(layer, routing.ids_TK)
        with ranges.range("experts", layer=layer):
            return self._ops["experts"](x_ND, weights.experts, routing, activations)

    def router_logits(self, layer: int, x_ND: Tensor) -> Tensor:
        """float32 [N, E]."""
        return linear(x_ND, self.weights.layers[layer].router_ED)

    def _run_layers(self, tokens_N: Tensor, positions_N: Tensor, attend, recorder) -> Tensor:
        config = self.config
        with ranges.range("embed"):
            cos_sin = rotary_tables(positions_N, config.head_dim, config.rope_theta)
            x_ND = self.weights.embedding_VD[tokens_N].float()
        for index, layer in enumerate(self.weights.layers):
            with ranges.range("layer", layer=index):
                with ranges.range("attention", layer=index):
                    normed_ND = rms_norm(x_ND, layer.attention_norm_D, config.rms_norm_eps)
                    x_ND = x_ND + self._attention(index, layer, normed_ND, cos_sin, attend=attend)
                with ranges.range("norm", layer=index):
                    normed_ND = rms_norm(x_ND, layer.moe_norm_D, config.rms_norm_eps)
                x_ND = x_ND + self.moe(index, normed_ND, recorder)
        return x_ND

    def _attention(self, index: int, layer: LayerWeights, x_ND: Tensor, cos_sin, *, attend) -> Tensor:
        config = self.config
        heads, kv_heads = config.num_heads, config.num_kv_heads
        qkv_NHd = linear(x_ND, layer.qkv_ND).unflatten(-1, (heads + 2 * kv_heads, config.head_dim))
        queries_keys = rotate(qkv_NHd[:, : heads + kv_heads], *cos_sin)
        out_NHd = attend(index, queries_keys[:, :heads], queries_keys[:, heads:], qkv_NHd[:, heads + kv_heads :])
        return linear(out_NHd.flatten(1), layer.output_DN)

    def _logits(self, x_ND: Tensor) -> Tensor:
        head_VD = self.weights.embedding_VD if self.weights.head_VD is None else self.weights.head_VD
        with ranges.range("head"):
            return linear(rms_norm(x_ND, self.weights.final_norm_D, self.config.rms_norm_eps), head_VD)
