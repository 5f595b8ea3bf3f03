"""The MoE layer on Hopper's FP8 tensor cores through moe_e4m3_sm90.cu: NVFP4, MXFP4 or FP8 weights x FP8
activations.

In: experts laid out once by `pack`, x [T, D] float32 or BF16, a `Routing`. Out: y [T, D] in x's dtype. x and h are rounded to
E4M3 with a scale a token, as the reference does; h to BF16 before that. FP4 weights are rounded to E4M3 once their block
scales are applied (e4m3_layout.as_fp8 says to what). A sum of the tensor cores has at most 16384 terms. A NaN in a token
makes that token's output NaN. No host synchronization: a call can be captured in a CUDA graph. Sums into y are atomic: their
order varies.
Shapes: T tokens, K experts a token, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fp4moe.cuda.build import load
from fp4moe.cuda.e4m3_layout import FORMATS, down_order, gate_up_order, pack_weight
from fp4moe.errors import SelectionError
from fp4moe.layouts import QuantizedTensor
from fp4moe.reference.route import Routing

SOURCE = "moe_e4m3_sm90.cu"
TARGET = "90a"
MAX_EXPERTS = 64
MAX_SLOTS = 8192  # of one launch; more tokens take several
NARROW_TOKENS, WIDE_TOKENS = 64, 256  # of a tile at most: more stages in flight, or more tokens for a weight
NARROW_SLOTS_AN_EXPERT = 32  # on average; more than NARROW_TOKENS on one would cost a second tile


@dataclass(frozen=True, slots=True)
class E4m3Experts:
    """The experts of one layer as moe_e4m3_sm90.cu reads them, see e4m3_layout.py."""

    format: str
    gate_up: Tensor
    down: Tensor
    gate_up_scale: Tensor  # [E, 2F]
    down_scale: Tensor  # [E, D]
    num_experts: int
    hidden: int
    intermediate: int

    @property
    def layout(self) -> str:
        """The layout's name in the table of implementations."""
        return "e4m3"

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        names = ("gate_up", "down", "gate_up_scale", "down_scale")
        return {name: getattr(self, name) for name in names}


def pack(gate_up: QuantizedTensor, down: QuantizedTensor) -> E4m3Experts:
    """gate_up [E, 2F, D], down [E, D, F]; FormatError where the kernel cannot take format or shape."""
    experts, hidden, intermediate = down.shape
    up_packed, up_scale = pack_weight(gate_up, gate_up_order(intermediate))
    down_packed, down_scale = pack_weight(down, down_order(hidden))
    return E4m3Experts(gate_up.format, up_packed, down_packed, up_scale, down_scale, experts, hidden, intermediate)


def experts(x_TD: Tensor, packed: E4m3Experts, routing: Routing, activations: str) -> Tensor:
    """y [T, D]; SelectionError for other activations than "fp8", a tensor off CUDA and too many experts."""
    if activations != "fp8":
        raise SelectionError(f"e4m3: takes activations in fp8 (got {activations!r})")
    if x_TD.device.type != "cuda" or packed.num_experts > MAX_EXPERTS:
        raise SelectionError(
            f"e4m3: needs a CUDA device and at most {MAX_EXPERTS} experts (got {x_TD.device} and {packed.num_experts})"
        )
    top_k = routing.ids_TK.shape[1]
    most = MAX_SLOTS // top_k
    x = (x_TD if x_TD.dtype in (torch.float32, torch.bfloat16) else x_TD.float()).contiguous()
    ids, gates = routing.ids_TK.to(torch.int32).contiguous(), routing.weights_TK.float().contiguous()
    out = torch.empty_like(x)
    for at in range(0, x.shape[0], most):
        part = slice(at, at + most)
        tile = tile_for(min(most, x.shape[0] - at), top_k, packed.num_experts)
        launch(x[part], ids[part], gates[part], packed, out=out[part], tile=tile)
    return out.to(x_TD.dtype)


def tile_for(num_tokens: int, top_k: int, num_experts: int) -> int:
    """Most tokens of a tile in a call; an expert never gets more than there are."""
    is_narrow = num_tokens <= NARROW_TOKENS or num_tokens * top_k <= NARROW_SLOTS_AN_EXPERT * num_experts
    return NARROW_TOKENS if is_narrow else WIDE_TOKENS


@dataclass(frozen=True, slots=True)
class Scratch:
    """What a launch writes on its way, see e4m3_prepare.cuh; P positions of slots sorted by expert."""

    slots: Tensor
    x: Tensor  # E4M3 in the order of the tensor core
    h_rounded: Tensor
    h: Tensor  # BF16 [P, F]
    x_scale: Tensor  # float32 [P]
    h_scale: Tensor  # times the router's weight
    token_of_position: Tensor
    y: Tensor  # float32 [T, D]

    @classmethod
    def of(cls, x: Tensor, ids: Tensor, packed: E4m3Experts, out: Tensor) -> Scratch:
        """For one launch; a tile may read WIDE_TOKENS past the last position."""
        positions = -(-(ids.numel() + 7 * packed.num_experts + WIDE_TOKENS) // 8) * 8

        def empty(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=x.device)

        return cls(
            slots=empty(_library().fp4moe_e4m3_slots_bytes()),
            x=empty(positions, packed.hidden),
            h_rounded=empty(positions, packed.intermediate),
            h=empty(positions, packed.intermediate, dtype=torch.bfloat16),
            x_scale=empty(positions, dtype=torch.float32),
            h_scale=empty(positions, dtype=torch.float32),
            token_of_position=empty(positions, dtype=torch.int32),
            y=out if out.dtype == torch.float32 else empty(*out.shape, dtype=torch.float32),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of the launch's arguments."""
        return self.slots, self.x, self.h_rounded, self.h, self.x_scale, self.h_scale, self.token_of_position, self.y


def launch(x: Tensor, ids: Tensor, gates: Tensor, packed: E4m3Experts, *, out: Tensor, tile: int) -> Scratch:
    """One layer on contiguous x and out of one dtype, int32 ids, float32 gates; `tile`: most tokens of a tile, 64 or 256."""
    scratch = Scratch.of(x, ids, packed, out)
    weights = (packed.gate_up, packed.down, packed.gate_up_scale, packed.down_scale)
    tensors = (*weights, x, ids, gates, *scratch.tensors(), out)
    sizes = (*ids.shape, packed.num_experts, packed.hidden, packed.intermediate, len(scratch.h) // 8)
    options = (FORMATS.index(packed.format), int(x.dtype == torch.bfloat16), tile, _num_blocks(x.device))
    stream = torch.cuda.current_stream(x.device).cuda_stream
    error = _library().fp4moe_moe_e4m3_sm90(*(t.data_ptr() for t in tensors), *sizes, *options, stream)
    if error != 0:
        raise RuntimeError(f"e4m3: launch failed with CUDA error {error}")
    return scratch


@cache
def _num_blocks(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _library() -> ctypes.CDLL:
    library = load(SOURCE, TARGET)
    library.fp4moe_moe_e4m3_sm90.argtypes = [ctypes.c_void_p] * 16 + [ctypes.c_int] * 10 + [ctypes.c_void_p]
    return library
