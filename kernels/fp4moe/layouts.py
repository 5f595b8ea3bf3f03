"""A weight as it is stored: codes, block scales, tensor scale; and the experts of a layer as two of them.

value[..., n, k] = decode(code[..., n, k]) * scale[..., n, k // BLOCK] * tensor_scale[...]

In: tensors from quantize/ or a checkpoint. Out: one checked, immutable record that can be indexed by expert,
moved and measured. Nothing here converts a number. Which dtype and block a format has is read from
formats.WEIGHT_FORMATS.

Shapes: [..., N, K] logical, N rows, K the reduction axis; the leading axes are experts.
    codes          uint8 [..., N, K * bits // 8]; fp8: float8_e4m3fn [..., N, K]; bf16: bfloat16 [..., N, K]
    scales         nvfp4: float8_e4m3fn [..., N, K // 16]; mxfp4: uint8 (E8M0) [..., N, K // 32];
                   fp8: float32 [..., N, 1]; int4, ternary: bfloat16 [..., N, K // block]; bf16: None
    tensor_scale   nvfp4: a multiplier; float32 [...], one a matrix; or [..., N], one a row: activations (a
                   scale a token), and gate and up imported with different scales. Other formats: None.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.formats import WeightFormat, weight_format


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A stored weight, see the module docstring; FormatError where parts do not fit together."""

    format: str
    method: str
    shape: tuple[int, ...]
    codes: Tensor
    scales: Tensor | None = None
    tensor_scale: Tensor | None = None

    def __post_init__(self) -> None:
        fmt = weight_format(self.format)
        if len(self.shape) < 2:
            raise FormatError(f"{self.format}: a stored weight has at least 2 axes [N, K] (got {self.shape})")
        check_block(self.shape[-1], fmt, "QuantizedTensor")
        _check_part("codes", self.codes, codes_shape(self.shape, fmt), fmt.code_dtype)
        _check_part("scales", self.scales, scales_shape(self.shape, fmt), fmt.scale_dtype)
        wanted = self.shape[:-2] if fmt.has_tensor_scale else None
        if fmt.has_tensor_scale and self.has_row_tensor_scales:
            wanted = self.shape[:-1]
        _check_part("tensor_scale", self.tensor_scale, wanted, torch.float32)

    @property
    def has_row_tensor_scales(self) -> bool:
        """Whether `tensor_scale` holds one scale a row instead of one a matrix."""
        return self.tensor_scale is not None and self.tensor_scale.ndim == len(self.shape) - 1

    @property
    def device(self) -> torch.device:
        """Where the codes lie."""
        return self.codes.device

    def __getitem__(self, index) -> "QuantizedTensor":
        """Index the first leading (expert) axis: an int drops it, a slice, list or index tensor keeps it."""
        if len(self.shape) < 3:
            raise FormatError(f"{self.format}: only leading axes can be indexed, shape {self.shape} has none")
        codes, scales, tensor_scale = (None if t is None else t[index] for t in self._parts())
        shape = (*codes.shape[:-2], *self.shape[-2:])
        return replace(self, shape=shape, codes=codes, scales=scales, tensor_scale=tensor_scale)

    def nbytes(self) -> dict[str, int]:
        """Bytes held by each part: codes, scales, tensor_scales."""
        names = ("codes", "scales", "tensor_scales")
        return {n: 0 if t is None else t.numel() * t.element_size() for n, t in zip(names, self._parts(), strict=True)}

    def to(self, device) -> "QuantizedTensor":
        """The same record on `device`."""
        codes, scales, tensor_scale = (None if t is None else t.to(device) for t in self._parts())
        return replace(self, codes=codes, scales=scales, tensor_scale=tensor_scale)

    def _parts(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.codes, self.scales, self.tensor_scale


@dataclass(frozen=True, slots=True)
class RowExperts:
    """The experts of one MoE layer as stored, the layout "rows": gate_up [E, 2F, D], gate rows first; down [E, D, F].

    What another layout's `pack` is made from. Every layout has these properties and `tensors()`.
    """

    gate_up: QuantizedTensor
    down: QuantizedTensor
    layout: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        (experts, hidden, intermediate), found = self.down.shape, self.gate_up.shape
        wanted = (experts, 2 * intermediate, hidden)
        if found != wanted or self.gate_up.format != self.down.format:
            raise FormatError(
                f"RowExperts.gate_up: must be {self.down.format} {wanted} beside down {self.down.shape} "
                f"(got {self.gate_up.format} {found})"
            )

    @property
    def num_experts(self) -> int:
        """E."""
        return self.down.shape[0]

    @property
    def hidden(self) -> int:
        """D."""
        return self.down.shape[1]

    @property
    def intermediate(self) -> int:
        """F."""
        return self.down.shape[2]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor held, by its name."""
        parts = {"gate_up": self.gate_up, "down": self.down}
        fields = ("codes", "scales", "tensor_scale")
        named = ((f"{part}.{field}", getattr(q, field)) for part, q in parts.items() for field in fields)
        return {name: tensor for name, tensor in named if tensor is not None}

    def nbytes(self) -> dict[str, int]:
        """Bytes held by each part of both matrices: codes, scales, tensor_scales."""
        gate_up, down = self.gate_up.nbytes(), self.down.nbytes()
        return {part: gate_up[part] + down[part] for part in gate_up}

    def to(self, device) -> "RowExperts":
        """The same experts on `device`."""
        return replace(self, gate_up=self.gate_up.to(device), down=self.down.to(device))


def codes_shape(shape: tuple[int, ...], fmt: WeightFormat) -> tuple[int, ...]:
    """Shape of the codes of a weight of logical `shape`."""
    return (*shape[:-1], shape[-1] * fmt.element_bits // 8 if fmt.code_dtype == torch.uint8 else shape[-1])


def scales_shape(shape: tuple[int, ...], fmt: WeightFormat) -> tuple[int, ...] | None:
    """Shape of the block (or row) scales of a weight of logical `shape`; None where the format has none."""
    if fmt.scale_element is None:
        return None
    return (*shape[:-1], shape[-1] // fmt.block_k if fmt.block_k else 1)


def check_block(num_columns: int, fmt: WeightFormat, name: str) -> None:
    """FormatError naming the tensor unless K is a positive multiple of the block."""
    if num_columns <= 0 or (fmt.block_k and num_columns % fmt.block_k):
        raise FormatError(
            f"{name}: K must be a positive multiple of {fmt.block_k or 1} for {fmt.name} "
            f"(got K = {num_columns}); pad K or choose a format with a smaller block"
        )


def _check_part(part: str, tensor: Tensor | None, shape: tuple[int, ...] | None, dtype: torch.dtype | None) -> None:
    found = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
    wanted = None if shape is None else (tuple(shape), dtype)
    if found != wanted:
        raise FormatError(f"QuantizedTensor.{part}: must be {wanted} (got {found}); shape is the logical [..., N, K]")
