"""Mixtral's decoder for training: the math of transformers' MixtralForCausalLM.

In: token ids [B, T]. Out: logits [B, T, V] and, per layer, the router's
probabilities. All experts are computed for all tokens by two large products and
the gates of the unselected are zero: at this size that is faster than
dispatching, and the shapes are static.

B windows, T positions, H hidden, I intermediate, E experts, V vocabulary, N = B*T.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model; the names are those of MixtralConfig."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 128
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the mean of squares in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        return (self.weight * (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps))).to(x.dtype)


def rotary_tables(shape: Shape, num_positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, [T, head_dim], the half-split convention."""
    exponents = torch.arange(0, shape.head_dim, 2, device=device).float() / shape.head_dim
    angles = torch.outer(torch.arange(num_positions, device=device).float(), shape.rope_theta**-exponents)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x [B, heads, T, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat([-second, first], dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query causal attention without biases."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        query_size = shape.num_attention_heads * shape.head_dim
        key_size = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, query_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, key_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, key_size, bias=False)
        self.o_proj = nn.Linear(query_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.shape.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = self.shape.num_attention_heads // self.shape.num_key_value_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class SparseMoe(nn.Module):
    """Top-k of E gated experts: w2(silu(w1 x) * w3 x), gates renormalised over the k."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        experts, hidden, inner = shape.num_local_experts, shape.hidden_size, shape.intermediate_size
        self.gate = nn.Linear(hidden, experts, bias=False)
        self.w1 = nn.Parameter(torch.empty(experts, inner, hidden))
        self.w2 = nn.Parameter(torch.empty(experts, hidden, inner))
        self.w3 = nn.Parameter(torch.empty(experts, inner, hidden))

    def gates(self, x_NH: Tensor) -> tuple[Tensor, Tensor]:
        """Router probabilities and gates, both [N, E] float32; gates are zero where not selected."""
        probs_NE = self.gate(x_NH).float().softmax(dim=-1)
        top, index = probs_NE.topk(self.shape.num_experts_per_tok, dim=-1)
        top = top / top.sum(dim=-1, keepdim=True)
        return probs_NE, torch.zeros_like(probs_NE).scatter(-1, index, top)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_NH = x.reshape(-1, x.shape[-1])
        probs_NE, gates_NE = self.gates(x_NH)
        inner = F.silu(F.linear(x_NH, self.w1.flatten(0, 1))) * F.linear(x_NH, self.w3.flatten(0, 1))
        inner = inner.view(len(x_NH), self.shape.num_local_experts, -1) * gates_NE.to(inner.dtype).unsqueeze(-1)
        out = F.linear(inner.flatten(1), self.w2.transpose(0, 1).flatten(1))
        return out.view_as(x), probs_NE, gates_NE


class Block(nn.Module):
    """Pre-norm attention, then pre-norm experts; dropout on both residual branches."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.block_sparse_moe = SparseMoe(shape)
        self.dropout = dropout

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), self.dropout, self.training)
        out, probs_NE, gates_NE = self.block_sparse_moe(self.post_attention_layernorm(x))
        return x + F.dropout(out, self.dropout, self.training), probs_NE, gates_NE


class PocketMixtral(nn.Module):
    """The whole decoder; the output projection is the embedding (tied)."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape, dropout) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                is_output = name.endswith(("o_proj.weight", "w2"))
                std = 0.02 / math.sqrt(2 * shape.num_hidden_layers) if is_output else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        cos, sin = rotary_tables(self.shape, ids.shape[1], ids.device)
        x = F.dropout(self.embed_tokens(ids), self.dropout, self.training)
        probs, gates = [], []
        for layer in self.layers:
            x, probs_NE, gates_NE = layer(x, cos, sin)
            probs.append(probs_NE)
            gates.append(gates_NE)
        return F.linear(self.norm(x), self.embed_tokens.weight), probs, gates


def load_balance(probs: list[Tensor], gates: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean over layers of E * sum_e f_e P_e, and f [layers, E].

    f_e is the share of the routed slots that went to expert e (sums to 1), P_e the
    mean router probability; 1.0 is perfect balance. Source: Fedus et al. 2021, eq. 4.
    """
    routed = torch.stack([(g > 0).float().mean(0) for g in gates])
    fractions = routed / routed.sum(-1, keepdim=True)
    mean_probs = torch.stack([p.mean(0) for p in probs])
    return probs[0].shape[-1] * (fractions * mean_probs).sum(-1).mean(), fractions
