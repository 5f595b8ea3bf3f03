"""What the bits mean: number formats of single elements, of blocked weights and of activations.

In: a format's name. Out: its decode table (code -> value), codes from values, and the tables that every other
module reads instead of hard-coding a format. Sources: OCP Microscaling Formats (MX) v1.0 for E2M1, E4M3 and
E8M0; NVFP4 as ModelOpt and compressed-tensors store it. Nothing here packs, blocks or scales; see pack.py and
quantize/.

Rounding is to nearest, ties to the even code (E8M0, whose significand is always 1: up), saturating at the
largest finite value (bf16 alone follows IEEE and overflows to inf). The sign of zero is kept: E2M1 code 8 is
-0.0. NaN becomes the NaN code (E4M3 0x7F, E8M0 255, bf16) or, where a format has none, a FormatError. E8M0
and E5M3 are unsigned and have no zero: zero and anything smaller becomes the smallest value, a negative
number is a FormatError.

E5M3 here has bias 9 and neither zero, subnormals, inf nor NaN: code -> (1 + m/8) * 2^(e - 9), so that all 126
positive E4M3 numbers are exact in it and a kernel moves it into BF16 with one shift and one addition.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fp4moe.errors import FormatError

E2M1_MAX = 6.0
E4M3_MAX = 448.0
E4M3_SMALLEST = 2.0**-9  # smallest positive subnormal
FP32_SMALLEST_NORMAL = 2.0**-126
IMPORTED = "imported"  # the method of weights from a checkpoint that does not name its quantizer


@dataclass(frozen=True, slots=True)
class ElementFormat:
    """One element: `bits` wide; value = mantissa * 2^(exponent - bias), coded as `coding` says.

    coding: "sign-magnitude", "unsigned" or "twos-complement" (an integer; the other fields are then unused).
    specials: "none", "nan-top" (the largest magnitude code is NaN) or "ieee" (top exponent holds inf and
    NaN).
    """

    name: str
    bits: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    coding: str
    specials: str = "none"
    has_subnormals: bool = True

    @property
    def max_value(self) -> float:
        """Largest finite value."""
        table = decode_table(self.name)
        return float(table[table.isfinite()].max())


ELEMENTS: dict[str, ElementFormat] = {
    e.name: e
    for e in (
        ElementFormat("e2m1", 4, 2, 1, 1, "sign-magnitude"),
        ElementFormat("e4m3", 8, 4, 3, 7, "sign-magnitude", "nan-top"),
        ElementFormat("e8m0", 8, 8, 0, 127, "unsigned", "nan-top", has_subnormals=False),
        ElementFormat("e5m3", 8, 5, 3, 9, "unsigned", has_subnormals=False),
        ElementFormat("int4", 4, 0, 4, 0, "twos-complement"),
        ElementFormat("ternary", 2, 0, 1, 0, "sign-magnitude"),
        ElementFormat("bf16", 16, 8, 7, 127, "sign-magnitude", "ieee"),
    )
}


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How a weight [..., N, K] is stored: scaled elements in blocks of `block_k` along K (None: a whole row).

    `scale_element` None means no block scale; "fp32" is a plain float32. `bits_per_weight` counts codes and
    block scales, for a block of finite size; row and tensor scales are left out. `methods` are the
    quantizers, see quantize/.
    """

    name: str
    label: str
    element: str
    block_k: int | None
    scale_element: str | None
    has_tensor_scale: bool
    bits_per_weight: float
    methods: tuple[str, ...]
    default_method: str
    code_dtype: torch.dtype
    scale_dtype: torch.dtype | None

    @property
    def element_bits(self) -> int:
        """Bits of one stored element."""
        return ELEMENTS[self.element].bits


_U8, _E4M3, _BF16, _F32 = torch.uint8, torch.float8_e4m3fn, torch.bfloat16, torch.float32
_SEARCH = ("absmax", "search")
_FOUR_SIX = ("absmax", "four_six", "search")
WEIGHT_FORMATS: dict[str, WeightFormat] = {
    f.name: f
    for f in (
        WeightFormat("bf16", "BF16", "bf16", None, None, False, 16.0, ("none",), "none", _BF16, None),
        WeightFormat("fp8", "FP8", "e4m3", None, "fp32", False, 8.0, ("absmax",), "absmax", _E4M3, _F32),
        WeightFormat("nvfp4", "NVFP4", "e2m1", 16, "e4m3", True, 4.5, _FOUR_SIX, "search", _U8, _E4M3),
        WeightFormat("mxfp4", "MXFP4", "e2m1", 32, "e8m0", False, 4.25, _SEARCH, "search", _U8, _U8),
        WeightFormat("int4", "INT4", "int4", 32, "bf16", False, 4.5, _SEARCH, "search", _U8, _BF16),
        WeightFormat("ternary", "ternary", "ternary", 64, "bf16", False, 2.25, _SEARCH, "search", _U8, _BF16),
    )
}


@dataclass(frozen=True, slots=True)
class ActivationFormat:
    """How rows of x [T, K] are rounded before a product; `storage` is the weight format of like layout."""

    name: str
    label: str
    bits: int
    storage: str | None
    note: str


ACTIVATION_FORMATS: dict[str, ActivationFormat] = {
    f.name: f
    for f in (
        ActivationFormat("fp32", "FP32", 32, None, "unchanged; for checks only"),
        ActivationFormat("bf16", "BF16", 16, "bf16", "rounded to nearest even"),
        ActivationFormat("fp8", "FP8", 8, "fp8", "E4M3, one dynamic FP32 scale a token"),
        ActivationFormat("nvfp4", "NVFP4", 4, "nvfp4",
                         "E2M1, E4M3 scale a block of 16, one dynamic FP32 scale a token"),
        ActivationFormat("mxfp4", "MXFP4", 4, "mxfp4", "E2M1, E8M0 scale a block of 32"),
    )
}  # fmt: skip


def _look_up(table: dict, name: str, kind: str):
    if name not in table:
        raise FormatError(f"{kind} format {name!r}: unknown; allowed: {', '.join(table)}")
    return table[name]


def element_format(name: str) -> ElementFormat:
    """ELEMENTS[name], or a FormatError that lists the names."""
    return _look_up(ELEMENTS, name, "element")


def weight_format(name: str) -> WeightFormat:
    """WEIGHT_FORMATS[name], or a FormatError that lists the names."""
    return _look_up(WEIGHT_FORMATS, name, "weight")


def activation_format(name: str) -> ActivationFormat:
    """ACTIVATION_FORMATS[name], or a FormatError that lists the names."""
    return _look_up(ACTIVATION_FORMATS, name, "activation")


def _magnitudes(fmt: ElementFormat) -> Tensor:
    """Value of each code without its sign bit, float64, specials included."""
    codes = torch.arange(2 ** (fmt.exponent_bits + fmt.mantissa_bits), dtype=torch.float64)
    exponent = (codes / 2**fmt.mantissa_bits).floor()
    fraction = codes / 2**fmt.mantissa_bits - exponent
    values = (1 + fraction) * torch.exp2(exponent - fmt.bias)
    if fmt.has_subnormals:
        values = torch.where(exponent == 0, fraction * 2.0 ** (1 - fmt.bias), values)
    if fmt.specials == "nan-top":
        values[-1] = torch.nan
    elif fmt.specials == "ieee":
        top = exponent == 2**fmt.exponent_bits - 1
        values = torch.where(top, torch.where(fraction == 0, torch.inf, torch.nan), values)
    return values


@cache
def decode_table(name: str) -> Tensor:
    """float32 [2**bits]: the value of every code, in code order. Shared; do not write to it."""
    fmt = element_format(name)
    if fmt.coding == "twos-complement":
        half = 2 ** (fmt.bits - 1)
        return torch.cat([torch.arange(half), torch.arange(-half, 0)]).float()
    values = _magnitudes(fmt).float()
    return values if fmt.coding == "unsigned" else torch.cat([values, -values])


def _check_encodable(x: Tensor, fmt: ElementFormat) -> None:
    if fmt.specials == "none" and x.isnan().any():
        raise FormatError(f"{fmt.name}: NaN has no code; replace NaN before encoding ({int(x.isnan().sum())} found)")
    if fmt.coding == "unsigned" and (x < 0).any():
        raise FormatError(f"{fmt.name}: unsigned, must not be negative (got {float(x.min()):g}); encode the magnitude")


def encode(x: Tensor, name: str) -> Tensor:
    """Codes of `x`, uint8 (bf16: uint16), same shape; nearest even, saturating (see the module docstring).

    Raises FormatError on NaN where the format has none, and on negative numbers where it is unsigned.
    """
    fmt = element_format(name)
    _check_encodable(x, fmt)
    if fmt.specials == "ieee":
        return x.to(torch.bfloat16).view(torch.uint16)
    if fmt.coding == "twos-complement":
        half = 2 ** (fmt.bits - 1)
        return (x.double().round().clamp(-half, half - 1).to(torch.int16) & (2**fmt.bits - 1)).to(torch.uint8)
    grid = _magnitudes(fmt)
    finite = grid[grid.isfinite()]
    middles = ((finite[1:] + finite[:-1]) / 2).to(x.device)
    magnitude = x.double().abs().contiguous()
    below = torch.searchsorted(middles, magnitude, right=False)
    above = torch.searchsorted(middles, magnitude, right=True)
    # They differ on a tie only. Even is the significand of an even code; E8M0's is always 1, so ties go up.
    is_below_even = below % 2 == 0 if fmt.mantissa_bits else torch.zeros_like(below, dtype=torch.bool)
    codes = torch.where(is_below_even, below, above)
    codes = torch.where(magnitude.isnan(), len(grid) - 1, codes)
    if fmt.coding == "sign-magnitude":
        codes = codes | (x.signbit().long() << (fmt.bits - 1))
    return codes.to(torch.uint8)
