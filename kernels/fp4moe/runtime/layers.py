"""The small parts of a decoder layer: normalization, rotary embedding, a linear layer with a BF16 weight.

In and out: float32. Source: `transformers.models.mixtral` (rotary in the half-split convention of Llama).
Weights stay BF16 and are widened for the call, exactly; nothing is cached, so memory_bytes() is the whole
truth.

Shapes: N tokens, D hidden, H heads, d head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.reference import product


def rms_norm(x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight."""
    return x_ND * torch.rsqrt(x_ND.square().mean(dim=-1, keepdim=True) + eps) * weight_D.float()


def linear(x_ND: Tensor, weight_MD: Tensor) -> Tensor:
    """x W^T with a BF16 weight, float32 arithmetic."""
    return product(x_ND, weight_MD.float())


def rotary_tables(positions_N: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each float32 [N, 1, d]; frequency i is theta^(-2i / d), both halves of d have the same."""
    exponents = torch.arange(0, head_dim, 2, device=positions_N.device, dtype=torch.float32) / head_dim
    angles = positions_N.float().unsqueeze(-1) * (1.0 / theta**exponents)
    angles_N1d = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles_N1d.cos(), angles_N1d.sin()


def rotate(x_NHd: Tensor, cos_N1d: Tensor, sin_N1d: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + d/2]) by the position's angles."""
    first, second = x_NHd.chunk(2, dim=-1)
    return x_NHd * cos_N1d + torch.cat([-second, first], dim=-1) * sin_N1d
