"""Activations to 8 or 4 bits, per token and while running, so that W4A16, W4A8 and W4A4 each have a
reference.

In: x [..., T, K], any float dtype. Out: codes and scales in the layout of a weight, a token in the place of a
row; or the float32 values that the arithmetic then sees. Scales are always absmax and depend on the token
alone, never on its batch:
    bf16    rounded to nearest even
    fp8     E4M3, FP32 scale a token = amax / 448
    nvfp4   E2M1, E4M3 scale a block of 16, and an FP32 second-level scale a token = amax / (6 * 448). Engines
            with a static `input_scale` have one a tensor; a token's own loses less and needs no calibration.
    mxfp4   E2M1, E8M0 scale a block of 32, OCP exponent
Unscaled formats let NaN and inf pass; the others raise FormatError, for a code would hide them.
"""

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import activation_format, weight_format
from fp4moe.layouts import QuantizedTensor, check_block
from fp4moe.quantize import nvfp4
from fp4moe.quantize.dequantize import dequantize
from fp4moe.quantize.weights import quantize_matrices


def quantize_activation(x: Tensor, format: str) -> QuantizedTensor:
    """`x` [..., T, K] stored in `format`; nvfp4's tensor_scale is [..., T], one a token.

    Raises FormatError for "fp32" (which has no storage), for K not a multiple of the block, and for NaN or
    inf.
    """
    storage = activation_format(format).storage
    if storage is None:
        raise FormatError(f"activation: {format} is not stored; use round_activation or another format")
    fmt = weight_format(storage)
    check_block(x.shape[-1], fmt, "activation")
    x = x.float()
    scale = None
    if fmt.scale_element is not None:
        amax = x.abs().amax(-1)
        if not amax.isfinite().all():
            raise FormatError(f"activation: must be finite for {format} (got {float(amax.max())}); use bf16 to debug")
        scale = nvfp4.tensor_scale_of(amax) if fmt.has_tensor_scale else None
    return quantize_matrices(x, fmt, "none" if fmt.name == "bf16" else "absmax", scale)


def round_activation(x: Tensor, format: str) -> Tensor:
    """float32 [..., T, K]: the values of `x` after rounding to `format`."""
    if activation_format(format).storage is None:
        return x.float()
    if format == "bf16":
        return x.to(torch.bfloat16).float()
    return dequantize(quantize_activation(x, format))
