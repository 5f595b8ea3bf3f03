"""Weights to 4 bits: checks, tensor scale, chunks, packing.

In: a float weight [..., N, K]. Out: a QuantizedTensor whose codes really take `bits_per_weight` bits. The
numbers are each format's own (nvfp4.py, mxfp4.py, fp8.py, integer.py); a row quantizer turns float32 [R, K]
into codes and scales. Rows are quantized a chunk at a time, so a large weight needs little memory beside
itself.

Shapes: [..., N, K]; R = all rows of all leading axes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import WeightFormat, weight_format
from fp4moe.layouts import QuantizedTensor, check_block, codes_shape, scales_shape
from fp4moe.pack import pack
from fp4moe.quantize import fp8, integer, mxfp4, nvfp4

RowQuantizer = Callable[[Tensor, str, Tensor | None], tuple[Tensor, Tensor | None]]
ROW_QUANTIZERS: dict[str, RowQuantizer] = {
    "bf16": fp8.round_rows_bf16,
    "fp8": fp8.quantize_rows,
    "nvfp4": nvfp4.quantize_rows,
    "mxfp4": mxfp4.quantize_rows,
    "int4": integer.quantize_rows_int4,
    "ternary": integer.quantize_rows_ternary,
}
# Weights quantized at a time. On a CPU 1 MiB of float32, so that temporaries stay in a core's L2; on a GPU enough to fill it.
_CHUNK_WEIGHTS = {"cpu": 2**18, "cuda": 2**25}


def quantize_weight(
    w: Tensor,
    format: str,
    method: str | None = None,
    *,
    tensor_scale: Tensor | float | None = None,
    name: str = "weight",
) -> QuantizedTensor:
    """`w` [..., N, K] in `format`; `method` None takes the format's default.

    NVFP4's tensor scale is amax / (6 * 448) over each matrix [N, K], so gate and up stacked along N share
    theirs; give `tensor_scale` (one, or one a matrix) to share it otherwise. Raises FormatError naming `name`
    on NaN or inf, on K not a multiple of the block, on an unknown format or method, and on a tensor scale
    that is not positive and finite.
    """
    fmt = weight_format(format)
    method = fmt.default_method if method is None else method
    if method not in fmt.methods:
        raise FormatError(f"{name}: method of {format} must be one of {', '.join(fmt.methods)} (got {method!r})")
    if w.ndim < 2 or not w.is_floating_point():
        raise FormatError(f"{name}: must be floating point [..., N, K] (got {w.dtype} {tuple(w.shape)})")
    check_block(w.shape[-1], fmt, name)
    amax = check_finite(w, name)
    if tensor_scale is not None and not fmt.has_tensor_scale:
        raise FormatError(f"{name}: {format} has no tensor scale (one was given); leave tensor_scale out")
    scale = _tensor_scale(amax, tensor_scale, name) if fmt.has_tensor_scale else None
    return quantize_matrices(w, fmt, method, scale)


def quantize_matrices(w: Tensor, fmt: WeightFormat, method: str, tensor_scale: Tensor | None) -> QuantizedTensor:
    """Checked `w` [..., N, K] with its tensor scale [...] or [..., N] already chosen."""
    rows = w.reshape(-1, w.shape[-1])
    row_scale = None
    if tensor_scale is not None:
        per_row = tensor_scale if tensor_scale.ndim == w.ndim - 1 else tensor_scale.unsqueeze(-1)
        row_scale = per_row.expand(w.shape[:-1]).reshape(-1)
    rows_a_chunk = max(1, _CHUNK_WEIGHTS[w.device.type] // w.shape[-1])
    codes, scales = [], []
    for first in range(0, max(len(rows), 1), rows_a_chunk):
        part = slice(first, first + rows_a_chunk)
        chunk_scale = None if row_scale is None else row_scale[part]
        chunk_codes, chunk_scales = ROW_QUANTIZERS[fmt.name](rows[part].float().contiguous(), method, chunk_scale)
        codes.append(pack(chunk_codes, fmt.element_bits) if chunk_codes.dtype == torch.uint8 else chunk_codes)
        scales.append(chunk_scales)
    shape = tuple(w.shape)
    return QuantizedTensor(
        format=fmt.name,
        method=method,
        shape=shape,
        codes=torch.cat(codes).view(codes_shape(shape, fmt)),
        scales=None if scales[0] is None else torch.cat(scales).view(scales_shape(shape, fmt)),
        tensor_scale=tensor_scale,
    )


def check_finite(w: Tensor, name: str) -> Tensor:
    """Largest magnitude of each matrix, float32 [...]; FormatError with name and place if not finite."""
    if math.prod(w.shape) == 0:
        return torch.zeros(w.shape[:-2], device=w.device)
    amax = torch.maximum(w.amax((-2, -1)), -w.amin((-2, -1))).float()
    if not amax.isfinite().all():
        wrong = ~w.isfinite()
        place = tuple(wrong.nonzero()[0].tolist())
        raise FormatError(
            f"{name}: weights must be finite (got {float(w[place])} at {list(place)}, "
            f"{int(wrong.sum())} such values); repair the checkpoint"
        )
    return amax


def _tensor_scale(amax: Tensor, given: Tensor | float | None, name: str) -> Tensor:
    if given is None:
        return nvfp4.tensor_scale_of(amax)
    scale = torch.as_tensor(given, dtype=torch.float32, device=amax.device).expand(amax.shape).clone()
    if not (scale.isfinite() & (scale > 0)).all():
        raise FormatError(f"{name}: tensor_scale must be positive and finite (got {given}); use amax / (6 * 448)")
    return scale
