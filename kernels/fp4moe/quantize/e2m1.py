"""E2M1 rounding fast enough to search with; formats.encode is its definition and a test compares all of it.

In: float32 numbers already divided by their scale. Out: the nearest E2M1 values, or their codes. Ties go to
the even code, magnitudes above 6 become 6, the sign of zero is kept. Powers of two scale exactly, so no step
here rounds but the one that is meant to.
"""

import torch
from torch import Tensor

from fp4moe.formats import E2M1_MAX

_EXPONENT_MASK = 0x7F800000
# Code of a magnitude by twice the magnitude: 0, .5, 1, 1.5, 2, 3, 4, 6 are the only ones that occur.
_CODE_BY_DOUBLE = [0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7]


def round_magnitude(magnitude: Tensor) -> Tensor:
    """Nearest E2M1 magnitude of finite float32 numbers >= 0, any shape."""
    power = (magnitude.view(torch.int32) & _EXPONENT_MASK).view(torch.float32)  # 2^floor(log2 x), 0 for subnormals
    step = power.clamp_(1.0, 4.0).mul_(0.5)
    return magnitude.div(step).round_().mul_(step).clamp_(max=E2M1_MAX)


def encode_e2m1(x: Tensor) -> Tensor:
    """uint8 codes (0..15) of finite float32 numbers, same shape."""
    doubled = round_magnitude(x.abs()).mul_(2.0).to(torch.int32)
    table = torch.tensor(_CODE_BY_DOUBLE, dtype=torch.uint8, device=x.device)
    codes = table.index_select(0, doubled.flatten()).view(x.shape)
    return codes | (x.signbit().to(torch.uint8) << 3)
