"""How each checkpoint layout names, shapes and scales the tensors of one quantized matrix.

In: a layout's name, tensors. Out: a QuantizedTensor and back, bit for bit; nothing is quantized here.
Sources, checked against the libraries' own code in the tests: ModelOpt (`NVFP4QTensor` and its unified
Hugging Face export) and compressed-tensors (`nvfp4-pack-quantized`, `mxfp4-pack-quantized`,
`float-quantized`).

| storage        | codes                  | block scale              | tensor scale                        |
|----------------|------------------------|--------------------------|-------------------------------------|
| modelopt-nvfp4 | weight U8 [N, K/2]     | weight_scale E4M3        | weight_scale_2 F32 [], a multiplier |
| ct-nvfp4       | weight_packed U8       | weight_scale E4M3        | weight_global_scale F32 [1], 1 / it |
| ct-mxfp4       | weight_packed U8       | weight_scale U8 (E8M0)   | -                                   |
| ct-fp8         | weight E4M3 [N, K]     | weight_scale F32 [N, 1]  | -                                   |

What others write is read with a little more freedom: scalar scales as [] or [1], FP8 scales in BF16, F16 or
one a tensor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.errors import CheckpointError
from fp4moe.formats import weight_format
from fp4moe.layouts import QuantizedTensor, codes_shape, scales_shape
from fp4moe.quantize import check_finite


@dataclass(frozen=True, slots=True)
class Part:
    """One stored tensor of a matrix: name after the module's, safetensors dtypes and shapes allowed."""

    suffix: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """A layout. A suffix is None where there is no such tensor; `is_reciprocal`: tensor and input scale."""

    name: str
    weight_format: str
    codes: str
    scales: str | None = None
    tensor_scale: str | None = None
    input_scale: str | None = None
    is_reciprocal: bool = False

    def parts(self, shape: tuple[int, int]) -> tuple[Part, ...]:
        """What must be stored for a matrix of logical `shape` [N, K]."""
        fmt = weight_format(self.weight_format)
        parts = [Part(self.codes, (_CODE_DTYPES[fmt.name],), (codes_shape(shape, fmt),))]
        if self.scales is not None:
            shapes = (scales_shape(shape, fmt),) + (((), (1,)) if fmt.block_k is None else ())
            parts.append(Part(self.scales, _SCALE_DTYPES[fmt.name], shapes))
        if self.tensor_scale is not None:
            parts.append(Part(self.tensor_scale, ("F32",), ((), (1,))))
        return tuple(parts)

    def load(self, tensors: dict[str, Tensor], shape: tuple[int, int], method: str, name: str) -> QuantizedTensor:
        """The stored tensors of one matrix, by suffix, as a QuantizedTensor; `name` is for errors."""
        codes = tensors[self.codes]
        scales = None if self.scales is None else tensors[self.scales]
        if self.weight_format == "nvfp4":
            codes, scales = _without_zero_scales(codes, scales, f"{name}.{self.scales}")
        elif self.weight_format == "mxfp4":
            scales = _checked_exponents(scales.view(torch.uint8), f"{name}.{self.scales}")
        elif self.weight_format == "fp8":
            _check_codes(codes, f"{name}.{self.codes}")
            scales = _positive(scales, f"{name}.{self.scales}").reshape(-1, 1).expand(shape[0], 1).contiguous()
        tensor_scale = None
        if self.tensor_scale is not None:
            tensor_scale = self._inverted(_positive(tensors[self.tensor_scale], f"{name}.{self.tensor_scale}")).reshape(())
        return QuantizedTensor(self.weight_format, method, shape, codes, scales, tensor_scale)

    def store(self, q: QuantizedTensor) -> dict[str, Tensor]:
        """The tensors to write for a matrix [N, K], by suffix."""
        tensors = {self.codes: q.codes}
        if self.scales is not None:
            tensors[self.scales] = q.scales
        if self.tensor_scale is not None:
            tensors[self.tensor_scale] = self._scalar(q.tensor_scale)
        return tensors

    def store_input_scale(self, multiplier: float) -> dict[str, Tensor]:
        """The tensor that holds a calibrated activation scale, by suffix."""
        return {self.input_scale: self._scalar(torch.tensor(multiplier))}

    def load_input_scale(self, stored: Tensor) -> float:
        """A stored activation scale as a multiplier."""
        return float(self._inverted(stored.float().reshape(())))

    def _scalar(self, multiplier: Tensor) -> Tensor:
        shape = (1,) if self.is_reciprocal else ()
        return self._inverted(multiplier).reshape(shape).clone()  # gate and up share theirs; safetensors forbids that

    def _inverted(self, scale: Tensor) -> Tensor:
        return scale.reciprocal() if self.is_reciprocal else scale


_E4M3_NAN, _E8M0_NAN = 0x7F, 0xFF  # bits; E4M3's without its sign
_CODE_DTYPES = {"bf16": "BF16", "nvfp4": "U8", "mxfp4": "U8", "fp8": "F8_E4M3"}
_SCALE_DTYPES = {"nvfp4": ("F8_E4M3",), "mxfp4": ("U8", "F8_E8M0"), "fp8": ("F32", "BF16", "F16")}
UNQUANTIZED = Storage("bf16", "bf16", "weight")
STORAGES: dict[str, Storage] = {
    s.name: s
    for s in (
        UNQUANTIZED,
        Storage("modelopt-nvfp4", "nvfp4", "weight", "weight_scale", "weight_scale_2", "input_scale"),
        Storage(
            "ct-nvfp4",
            "nvfp4",
            "weight_packed",
            "weight_scale",
            "weight_global_scale",
            "input_global_scale",
            True,
        ),
        Storage("ct-mxfp4", "mxfp4", "weight_packed", "weight_scale"),
        Storage("ct-fp8", "fp8", "weight", "weight_scale"),
    )
}


def load_plain(weight: Tensor, name: str) -> QuantizedTensor:
    """An unquantized matrix [N, K], any float dtype, as a QuantizedTensor of format bf16."""
    check_finite(weight, name)
    return QuantizedTensor("bf16", "none", tuple(weight.shape), weight.to(torch.bfloat16))


def _without_zero_scales(codes: Tensor, scales: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Blocks of scale 0 (ModelOpt lets small ones underflow) become codes 0 at scale 1, the same values."""
    lowest, highest = scales.view(torch.uint8).aminmax()
    if int(lowest) > 0 and int(highest) < _E4M3_NAN:  # all positive: one look at each byte, the usual case
        return codes, scales
    values = scales.float()
    _require(values >= 0, values, name)  # NaN fails too
    is_zero = values == 0
    if not is_zero.any():
        return codes, scales
    codes = codes.unflatten(-1, (scales.shape[-1], -1)).masked_fill(is_zero.unsqueeze(-1), 0).flatten(-2)
    return codes, values.masked_fill(is_zero, 1.0).to(torch.float8_e4m3fn)


def _checked_exponents(exponents: Tensor, name: str) -> Tensor:
    if int(exponents.max()) == _E8M0_NAN:
        _require(exponents != _E8M0_NAN, exponents, name)
    return exponents


def _check_codes(codes: Tensor, name: str) -> None:
    magnitudes = codes.view(torch.uint8) & _E4M3_NAN
    if int(magnitudes.max()) == _E4M3_NAN:
        _require(magnitudes != _E4M3_NAN, codes, name)


def _positive(scale: Tensor, name: str) -> Tensor:
    scale = scale.float()
    _require(scale.isfinite() & (scale > 0), scale, name)
    return scale


def _require(is_good: Tensor, values: Tensor, name: str) -> None:
    if not is_good.all():
        value = values[~is_good].flatten()[0].item()
        raise CheckpointError(
            f"{name}: scales must be positive and finite, codes finite (got {value}, "
            f"{int((~is_good).sum())} such values); export the checkpoint again"
        )
