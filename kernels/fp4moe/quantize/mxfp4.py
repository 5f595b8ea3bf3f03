"""MXFP4: E2M1 values, one E8M0 scale (a power of two) a block of 32. Source: OCP Microscaling Formats v1.0.

In: float32 rows. Out: codes (one a byte, not yet packed) and scales as E8M0 bytes (exponent + 127). Methods:
"absmax" (OCP: exponent floor(log2 amax) - 2, so values above 6 scales clip to 6), "search" (the exponent of
least squared error).

Behavior at the edges, each tested: a block of zeros has scale 1 (byte 127) and codes 0; the exponent is held
at -127 or above, so blocks with amax under 2^-125 lose values under 2^-129; and at 125 or below, where absmax
ends by itself, for 6 * 2^126 is over float32's largest number. Byte 255 (NaN) never occurs. Errors are
compared after dividing the block by 2^floor(log2 amax), which is exact, so that squares never underflow.

Shapes: R rows, K columns, B = K // 32 blocks a row.
"""

import torch
from torch import Tensor

from fp4moe.quantize.e2m1 import encode_e2m1
from fp4moe.quantize.search import search_scales

BLOCK = 32
EXPONENT_MIN, EXPONENT_MAX, BIAS = -127, 125, 127
_OCP_OFFSET = -2  # E2M1's largest exponent
# Which scales 2^r can win, r relative to floor(log2 amax), that is for 1 <= amax < 2. From above: r = 0
# never, since 1 >= 2 * amax / 7 (search.py). From below: halving s gains at most s^2 on each of the 31 other
# values and costs (amax - 3s)^2 - (amax - 6s)^2 >= 6s - 27s^2 on the largest, which is more for s <= 2^-4.
_START, _END = -1, -4
_RELATIVE_MAX = 149 - 127  # a block of FP32's smallest subnormal, 2^-149, still has scale 2^-127


def quantize_rows(rows_RK: Tensor, method: str, tensor_scale_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float32 [R, K] -> (uint8 codes [R, K], uint8 E8M0 scales [R, B])."""
    num_rows, num_columns = rows_RK.shape
    blocks_BK = rows_RK.view(-1, BLOCK)
    amax_B = blocks_BK.abs().amax(-1)
    floor_B = torch.where(amax_B == 0, 0, torch.frexp(amax_B).exponent - 1)
    units_BK = (blocks_BK.double() * torch.exp2(-floor_B.double()).unsqueeze(-1)).float()
    relative_B = _METHODS[method](units_BK, floor_B)
    relative_B = torch.where(amax_B == 0, 0, relative_B)
    codes = encode_e2m1(units_BK / torch.exp2(relative_B.float()).unsqueeze(-1)).view(num_rows, num_columns)
    return codes, (floor_B + relative_B + BIAS).to(torch.uint8).view(num_rows, num_columns // BLOCK)


def _absmax(units_BK: Tensor, floor_B: Tensor) -> Tensor:
    return (floor_B + _OCP_OFFSET).clamp(EXPONENT_MIN, EXPONENT_MAX) - floor_B


def _search(units_BK: Tensor, floor_B: Tensor) -> Tensor:
    scales_C = torch.exp2(torch.arange(_END, _RELATIVE_MAX + 1, device=units_BK.device).float())
    allowed_B = EXPONENT_MIN - floor_B  # the smallest relative exponent that E8M0 holds
    start_B = torch.minimum(allowed_B.clamp(min=_START), EXPONENT_MAX - floor_B) - _END
    lowest_B = allowed_B.clamp(min=_END) - _END
    return search_scales(units_BK.abs(), scales_C, start_B.long(), lowest_B.long()) + _END


_METHODS = {"absmax": _absmax, "search": _search}
