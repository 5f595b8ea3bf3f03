"""FP8 and BF16 rows: E4M3 with one FP32 scale a row, and plain BF16.

In: float32 rows. Out: codes in the dtype that stores them, and row scales (None for BF16). A row is an output
channel of a weight or a token of an activation. Scale = amax / 448, held at 2^-126 or above; a row of zeros
has scale 1.

Shapes: R rows, K columns.
"""

import torch
from torch import Tensor

from fp4moe.formats import E4M3_MAX, FP32_SMALLEST_NORMAL
from fp4moe.quantize.exact import divide


def quantize_rows(rows_RK: Tensor, method: str, tensor_scale_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float32 [R, K] -> (float8_e4m3fn [R, K], float32 scales [R, 1])."""
    amax_R1 = rows_RK.abs().amax(-1, keepdim=True)
    scale_R1 = torch.where(amax_R1 == 0, 1.0, divide(amax_R1, E4M3_MAX).clamp(min=FP32_SMALLEST_NORMAL))
    return (rows_RK / scale_R1).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale_R1


def round_rows_bf16(rows_RK: Tensor, method: str, tensor_scale_R: Tensor | None = None) -> tuple[Tensor, None]:
    """float32 [R, K] -> (bfloat16 [R, K], None)."""
    return rows_RK.to(torch.bfloat16), None
