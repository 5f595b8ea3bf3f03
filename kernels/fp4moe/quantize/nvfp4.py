"""NVFP4: E2M1 values, one E4M3 scale a block of 16, one FP32 scale a matrix (or a row, for activations).

value = E2M1 * E4M3 * tensor_scale. In: float32 rows and their tensor scale. Out: codes (one a byte, not yet
packed) and scales. Methods: "absmax" (scale = amax / 6), "four_six" (amax / 6 or amax / 4, whichever errs
less; Four Over Six), "search" (the best of all 126 positive E4M3 numbers, which contains both).

Behavior at the edges, each tested:
    tensor of zeros            tensor scale 1, block scales 1, codes 0
    block of zeros             block scale 1, codes 0
    tensor scale too small     held at 2^-126, FP32's smallest normal number: GPUs may flush what lies below
    block scale under 2^-9     held at 2^-9, E4M3's smallest; weights under 2^-11 * tensor_scale become zero
    block scale over 448       held at 448, values clip at 6 * 448 * tensor_scale; only with a given tensor
                               scale (or as amax / 4 of "four_six", which then loses to amax / 6 by its error)
    one outlier in a block     absmax gives it an exact-as-E4M3-allows value and the rest rounds coarsely;
                               search may clip it where that costs less in total

Shapes: R rows, K columns, B = K // 16 blocks a row.
"""

import torch
from torch import Tensor

from fp4moe.formats import E2M1_MAX, E4M3_MAX, E4M3_SMALLEST, FP32_SMALLEST_NORMAL, decode_table
from fp4moe.quantize.e2m1 import encode_e2m1
from fp4moe.quantize.exact import divide
from fp4moe.quantize.search import block_error, search_scales

BLOCK = 16
_NUM_SCALES = 126
# Up to 15 * 2^-9 an odd multiple of 2^-9 has no half in E4M3, so search.py's upper bound does not exclude it.
_LAST_CODE_WITHOUT_HALF = 15


def tensor_scale_of(amax: Tensor) -> Tensor:
    """float32 amax / (6 * 448), at least 2^-126; 1 where amax is 0.

    Within one unit in the last place, chosen so that 1 / (1 / scale) == scale in float32: compressed-tensors
    stores the reciprocal, and a checkpoint that goes through it must come back bit for bit. Two reciprocals
    reach such a number from any start, as one of a number and its reciprocal has a mantissa below sqrt(2),
    where the round trip is exact.
    """
    scale = divide(amax.float(), E2M1_MAX * E4M3_MAX).clamp(min=FP32_SMALLEST_NORMAL)
    return torch.where(amax == 0, 1.0, scale.reciprocal().reciprocal())


def to_e4m3_scale(x: Tensor) -> Tensor:
    """Nearest positive E4M3 number, as float32: held between 2^-9 and 448."""
    return x.clamp(E4M3_SMALLEST, E4M3_MAX).to(torch.float8_e4m3fn).float()


def quantize_rows(rows_RK: Tensor, method: str, tensor_scale_R: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [R, K] -> (uint8 codes [R, K], float8_e4m3fn scales [R, B])."""
    num_rows, num_columns = rows_RK.shape
    units_BK = (rows_RK / tensor_scale_R.unsqueeze(-1)).view(-1, BLOCK)
    magnitudes_BK = units_BK.abs()
    amax_B = magnitudes_BK.amax(-1)
    scale_B = _METHODS[method](magnitudes_BK, amax_B)
    scale_B = torch.where(amax_B == 0, 1.0, scale_B)
    codes = encode_e2m1(units_BK / scale_B.unsqueeze(-1)).view(num_rows, num_columns)
    return codes, scale_B.to(torch.float8_e4m3fn).view(num_rows, num_columns // BLOCK)


def _absmax(magnitudes_BK: Tensor, amax_B: Tensor) -> Tensor:
    return to_e4m3_scale(divide(amax_B, E2M1_MAX))


def _four_six(magnitudes_BK: Tensor, amax_B: Tensor) -> Tensor:
    six, four = to_e4m3_scale(divide(amax_B, 6)), to_e4m3_scale(divide(amax_B, 4))
    return torch.where(block_error(magnitudes_BK, four) < block_error(magnitudes_BK, six), four, six)


def _search(magnitudes_BK: Tensor, amax_B: Tensor) -> Tensor:
    scales_C = decode_table("e4m3")[: _NUM_SCALES + 1].to(amax_B.device)
    # One past the first scale that the upper bound excludes, so that the bound's own rounding cannot matter.
    start_B = torch.searchsorted(scales_C, amax_B * (2 / 7), right=True)
    start_B = start_B.clamp(_LAST_CODE_WITHOUT_HALF, _NUM_SCALES)
    return scales_C[search_scales(magnitudes_BK, scales_C, start_B, torch.ones_like(start_B))]


_METHODS = {"absmax": _absmax, "four_six": _four_six, "search": _search}
