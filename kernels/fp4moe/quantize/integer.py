"""INT4 and ternary: the comparisons, both with a BF16 scale a block.

In: float32 rows. Out: codes (one a byte, not yet packed) and BF16 scales. INT4 is two's complement -8..7,
symmetric, block 32, scale = amax / 7; "search" tries 32 scales down to half of that. Ternary is sign and
magnitude of {0, 1}, block 64; "absmax" takes amax as scale, "search" the least-squares optimum: for each m
the mean of the m largest magnitudes, chosen by error after rounding the scale to BF16. A block of zeros has
scale 1; scales are held between 2^-126 and the largest BF16 number.

Shapes: R rows, K columns, B blocks, C candidate scales.
"""

import torch
from torch import Tensor

from fp4moe.formats import FP32_SMALLEST_NORMAL
from fp4moe.quantize.exact import divide, sum_in_order

INT4_BLOCK, TERNARY_BLOCK = 32, 64
_INT4_MAX = 7
_BF16_MAX = torch.finfo(torch.bfloat16).max
_INT4_CANDIDATES = 32


def quantize_rows_int4(rows_RK: Tensor, method: str, tensor_scale_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float32 [R, K] -> (uint8 codes [R, K], bfloat16 scales [R, K // 32])."""
    blocks_BK = rows_RK.view(-1, INT4_BLOCK)
    amax_B = blocks_BK.abs().amax(-1)
    scale_B = _to_bf16_scale(divide(amax_B, _INT4_MAX), amax_B)
    if method == "search":
        for step in range(1, _INT4_CANDIDATES + 1):
            candidate_B = _to_bf16_scale(divide(amax_B, _INT4_MAX) * (1 - 0.5 * step / _INT4_CANDIDATES), amax_B)
            scale_B = _better(blocks_BK, scale_B, candidate_B, _round_int4)
    codes = _round_int4(blocks_BK, scale_B).to(torch.int8).view(torch.uint8) & 0xF
    return codes.view(rows_RK.shape), scale_B.to(torch.bfloat16).view(len(rows_RK), rows_RK.shape[1] // INT4_BLOCK)


def quantize_rows_ternary(rows_RK: Tensor, method: str, tensor_scale_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float32 [R, K] -> (uint8 codes [R, K], bfloat16 scales [R, K // 64])."""
    blocks_BK = rows_RK.view(-1, TERNARY_BLOCK)
    amax_B = blocks_BK.abs().amax(-1)
    scale_B = _to_bf16_scale(amax_B, amax_B)
    if method == "search":
        scale_B = _better(blocks_BK, scale_B, _to_bf16_scale(_ternary_optimum(blocks_BK), amax_B), _round_ternary)
    values_BK = _round_ternary(blocks_BK, scale_B)
    codes = values_BK.abs().to(torch.uint8) | (blocks_BK.signbit().to(torch.uint8) << 1)
    return codes.view(rows_RK.shape), scale_B.to(torch.bfloat16).view(len(rows_RK), rows_RK.shape[1] // TERNARY_BLOCK)


def _ternary_optimum(blocks_BK: Tensor) -> Tensor:
    """Scale [B] that maximizes (sum of the m largest)^2 / m, the error saved by keeping m of them."""
    sums_BK = blocks_BK.abs().double().sort(-1, descending=True).values.cumsum(-1)
    kept = torch.arange(1, blocks_BK.shape[-1] + 1, device=blocks_BK.device)
    best_B1 = (sums_BK.square() / kept).argmax(-1, keepdim=True)
    return (sums_BK.gather(-1, best_B1) / (best_B1 + 1)).squeeze(-1).float()


def _to_bf16_scale(scale_B: Tensor, amax_B: Tensor) -> Tensor:
    rounded_B = scale_B.clamp(FP32_SMALLEST_NORMAL, _BF16_MAX).to(torch.bfloat16).float()
    return torch.where(amax_B == 0, 1.0, rounded_B)


def _round_int4(blocks_BK: Tensor, scale_B: Tensor) -> Tensor:
    return (blocks_BK / scale_B.unsqueeze(-1)).round().clamp(-_INT4_MAX - 1, _INT4_MAX)


def _round_ternary(blocks_BK: Tensor, scale_B: Tensor) -> Tensor:
    return (blocks_BK / scale_B.unsqueeze(-1)).round().clamp(-1, 1)


def _better(blocks_BK: Tensor, first_B: Tensor, second_B: Tensor, rounding) -> Tensor:
    """The scale of smaller squared error, first on a tie; relative to amax, so no square underflows."""
    amax_B1 = blocks_BK.abs().amax(-1, keepdim=True)

    def error(scale_B: Tensor) -> Tensor:
        return sum_in_order(((rounding(blocks_BK, scale_B) * scale_B.unsqueeze(-1) - blocks_BK) / amax_B1).square())

    return torch.where(error(second_B) < error(first_B), second_B, first_B)
