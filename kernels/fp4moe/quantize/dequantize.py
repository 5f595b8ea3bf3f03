"""Stored weights back to numbers: the definition of what a QuantizedTensor means.

In: a QuantizedTensor. Out: value = (decode(code) * block scale) * tensor_scale in float32. The first product
is exact for E2M1 (two bits times four), so a weight is rounded once, by the tensor scale; without one it is
exact. Whole bytes are looked up, one entry holding all the values of a byte.

Shapes: [..., N, K].
"""

from functools import cache

import torch
from torch import Tensor

from fp4moe.formats import decode_table, element_format, weight_format
from fp4moe.layouts import QuantizedTensor
from fp4moe.pack import unpack


def dequantize(q: QuantizedTensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight, `dtype` [..., N, K], on the device of its codes."""
    fmt = weight_format(q.format)
    values = _decode_bytes(q.codes, fmt.element) if q.codes.dtype == torch.uint8 else q.codes.float()
    if q.scales is not None:
        block_k = q.shape[-1] // q.scales.shape[-1]
        values = values.view(*q.scales.shape, block_k).mul_(scale_values(q).unsqueeze(-1)).view(q.shape)
    if q.tensor_scale is not None:
        per_row = q.tensor_scale if q.has_row_tensor_scales else q.tensor_scale.unsqueeze(-1)
        values = values.mul_(per_row.unsqueeze(-1))
    return values.to(dtype)


def scale_values(q: QuantizedTensor) -> Tensor:
    """Block scales as float32, in the shape of `q.scales`."""
    if q.scales.dtype == torch.uint8:
        return decode_table(weight_format(q.format).scale_element).to(q.device)[q.scales.int()]
    return q.scales.float()


# One table entry holds every value of a byte, so that a look-up moves 8 or 16 bytes at once.
_ENTRY_DTYPES = {2: torch.int64, 4: torch.complex128}


@cache
def _byte_table(element: str, device: str) -> Tensor:
    """[256] entries: the float32 values that each byte holds, seen as one wide number."""
    values = decode_table(element)
    codes = unpack(torch.arange(256, dtype=torch.uint8).unsqueeze(-1), element_format(element).bits)
    return values[codes.int()].view(_ENTRY_DTYPES[codes.shape[-1]]).squeeze(-1).to(device)


def _decode_bytes(packed: Tensor, element: str) -> Tensor:
    entries = _byte_table(element, str(packed.device)).index_select(0, packed.flatten().int())
    return entries.view(torch.float32).view(*packed.shape[:-1], packed.shape[-1] * 8 // element_format(element).bits)
