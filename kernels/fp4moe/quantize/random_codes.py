"""Random weights that are born quantized: for speed and correctness, meaningless for quality.

In: a weight format, a logical shape [E, N, K], a seed, a device. Out: QuantizedTensor of the method "absmax". Codes are
drawn as bytes on the device and no full-precision tensor of the weight ever exists, so 1.4 billion weights take about a
second on a GPU. Scales are drawn in the range that weights of a trained model have, so that a layer's output is neither
all zeros nor infinite; every expert has its own tensor scale, none a power of two, so that a kernel that drops one or
applies another expert's gives wrong numbers. CPU and CUDA generators differ: a seed means the same weights on the same
kind of device only.

Shapes: E experts, N rows, K reduction axis, B = K // block scales a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import weight_format
from fp4moe.layouts import QuantizedTensor, check_block, codes_shape, scales_shape

FORMATS = ("bf16", "fp8", "nvfp4", "mxfp4")
# A matrix of standard deviation 1 / sqrt(K) keeps unit variance: products neither die out nor overflow with K.
# Uniform E2M1 codes have the root mean square sqrt((0 + .25 + 1 + 2.25 + 4 + 9 + 16 + 36) / 8).
CODE_RMS = 2.926
_E4M3_CODES = (0x58, 0x78)  # 16 to 240: where block scales lie under a tensor scale of amax / (6 * 448)
_E4M3_SCALE_RMS = 108.1
_E8M0_SPREAD = 3  # exponents drawn from a range of three powers of two
_CHUNK = 2**28  # bytes drawn at once


def random_quantized(
    format: str, shape: tuple[int, int, int], *, seed: int, device: torch.device | str
) -> QuantizedTensor:
    """[E, N, K] with random codes and scales; FormatError for a format without a random form or a K off the block."""
    if format not in FORMATS:
        raise FormatError(f"random codes: format must be one of {', '.join(FORMATS)} (got {format!r})")
    fmt = weight_format(format)
    check_block(shape[-1], fmt, "random codes")
    generator = torch.Generator(device).manual_seed(seed)
    make = {"bf16": _bf16, "fp8": _fp8, "nvfp4": _nvfp4, "mxfp4": _mxfp4}[format]
    codes, scales, tensor_scale = make(shape, generator, torch.device(device))
    method = "none" if format == "bf16" else "absmax"
    return QuantizedTensor(format, method, tuple(shape), codes, scales, tensor_scale)


def _nvfp4(shape, generator: torch.Generator, device: torch.device):
    fmt = weight_format("nvfp4")
    scales = _bytes(scales_shape(shape, fmt), generator, device, *_E4M3_CODES).view(torch.float8_e4m3fn)
    spread_E = 0.8 + 0.4 * torch.rand(shape[0], device=device, generator=generator)
    tensor_scale_E = spread_E / (CODE_RMS * _E4M3_SCALE_RMS * shape[-1] ** 0.5)
    return _bytes(codes_shape(shape, fmt), generator, device), scales, tensor_scale_E


def _mxfp4(shape, generator: torch.Generator, device: torch.device):
    fmt = weight_format("mxfp4")
    # 2^middle is the power of two next to the scale that gives unit variance, see CODE_RMS.
    middle = 127 + round(torch.log2(torch.tensor(1 / (CODE_RMS * shape[-1] ** 0.5))).item())
    scales = _bytes(scales_shape(shape, fmt), generator, device, middle - 1, middle - 1 + _E8M0_SPREAD)
    return _bytes(codes_shape(shape, fmt), generator, device), scales, None


def _fp8(shape, generator: torch.Generator, device: torch.device):
    # Magnitudes 0 to 7.5, root mean square 2.14, with either sign: no NaN code among them.
    codes = _bytes(tuple(shape), generator, device, 0x00, 0x50)
    codes |= _bytes(tuple(shape), generator, device, 0, 2) << 7
    rows = (*shape[:-1], 1)
    scales = (0.5 + torch.rand(rows, device=device, generator=generator)) / (2.14 * shape[-1] ** 0.5)
    return codes.view(torch.float8_e4m3fn), scales, None


def _bf16(shape, generator: torch.Generator, device: torch.device):
    codes = torch.empty(shape, dtype=torch.bfloat16, device=device)
    return codes.normal_(0.0, shape[-1] ** -0.5, generator=generator), None, None


def _bytes(shape: tuple[int, ...], generator: torch.Generator, device: torch.device, low: int = 0, high: int = 256) -> Tensor:
    """uint8 in [low, high), drawn a chunk at a time: the generator's temporaries stay small."""
    drawn = torch.empty(shape, dtype=torch.uint8, device=device)
    flat = drawn.view(-1)
    for first in range(0, flat.numel(), _CHUNK):
        part = flat[first : first + _CHUNK]
        part.random_(low, high, generator=generator)
    return drawn
