"""The MoE layer on Hopper through moe_sm90.cu: NVFP4 or MXFP4 weights x BF16 activations.

In: experts laid out once by `pack`, x [T, D] float32 or BF16, a `Routing`. Out: y [T, D] float32, as it was summed up; x and h
are rounded to BF16, products accumulate in float32. No host synchronization: a call can be captured in a CUDA graph.
`decode`, `rows` and `grouped` are one kernel with narrow and wide tiles of tokens. One stream at a time on a device.
Shapes: T tokens, K experts a token, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fp4moe.cuda.build import load
from fp4moe.cuda.fragments_layout import folded_scales, pack_down, pack_gate_up
from fp4moe.errors import SelectionError
from fp4moe.layouts import QuantizedTensor
from fp4moe.reference.route import Routing

SOURCE = "moe_sm90.cu"
TARGET = "90a"
MAX_EXPERTS = 64
MAX_SLOTS = 8192  # of one launch; more tokens take several
NARROW_TILE, MAX_NARROW_SLOTS = 24, 2048  # tiles of up to so many tokens, and what a launch of them takes
# Most tokens of a tile, for calls of up to so many tokens. An expert never gets more slots than there are tokens.
DECODE_TILES = ((8, 8), (16, 16), (None, 24))
GROUPED_TILES = ((192, 64), (None, 128))


@dataclass(frozen=True, slots=True)
class FragmentExperts:
    """The experts of one layer as moe_sm90.cu reads them, see fragments_layout.py."""

    format: str
    gate_up: Tensor
    down: Tensor
    gate_up_scale: Tensor  # [E, 2]
    down_scale: Tensor  # [E, 1]
    num_experts: int
    hidden: int
    intermediate: int

    @property
    def layout(self) -> str:
        """The layout's name in the table of implementations."""
        return "fragments"

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        names = ("gate_up", "down", "gate_up_scale", "down_scale")
        return {name: getattr(self, name) for name in names}


def pack(gate_up: QuantizedTensor, down: QuantizedTensor) -> FragmentExperts:
    """gate_up [E, 2F, D], down [E, D, F]; FormatError where the kernel cannot take format or shape."""
    experts, hidden, intermediate = down.shape
    scales = folded_scales(gate_up, parts=2), folded_scales(down, parts=1)
    return FragmentExperts(gate_up.format, pack_gate_up(gate_up), pack_down(down), *scales, experts, hidden, intermediate)


def decode(x_TD: Tensor, packed: FragmentExperts, routing: Routing, activations: str) -> Tensor:
    """The layer for few tokens: narrow tiles of tokens, two warpgroups along the rows and two along K."""
    return _run(x_TD, packed, routing, activations, DECODE_TILES)


def rows(x_TD: Tensor, packed: FragmentExperts, routing: Routing, activations: str) -> Tensor:
    """The same with four warpgroups along the rows: less to issue, coarser units of work."""
    return _run(x_TD, packed, routing, activations, DECODE_TILES, splits_k=False)


def grouped(x_TD: Tensor, packed: FragmentExperts, routing: Routing, activations: str) -> Tensor:
    """The layer for many tokens: wide tiles of tokens, warpgroups side by side along the rows."""
    return _run(x_TD, packed, routing, activations, GROUPED_TILES)


def _run(x_TD: Tensor, packed: FragmentExperts, routing: Routing, activations: str, tiles, *, splits_k: bool = True) -> Tensor:
    if activations != "bf16":
        raise SelectionError(f"fragments: takes activations in bf16 (got {activations!r})")
    if x_TD.device.type != "cuda" or packed.num_experts > MAX_EXPERTS:
        raise SelectionError(
            f"fragments: needs a CUDA device and at most {MAX_EXPERTS} experts (got {x_TD.device} and {packed.num_experts})"
        )
    top_k = routing.ids_TK.shape[1]
    most = MAX_SLOTS // top_k
    x = x_TD.to(torch.bfloat16).contiguous()
    ids, gates = routing.ids_TK.to(torch.int32).contiguous(), routing.weights_TK.float().contiguous()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    for at in range(0, x.shape[0], most):
        part = slice(at, at + most)
        tile = _tile(min(most, x.shape[0] - at), tiles)
        launch(x[part], ids[part], gates[part], packed, out=out[part], tile=tile, splits_k=splits_k)
    return out


def _tile(num_tokens: int, tiles) -> int:
    return next(tile for most, tile in tiles if most is None or num_tokens <= most)


def launch(
    x: Tensor, ids: Tensor, gates: Tensor, packed: FragmentExperts, *, out: Tensor, tile: int, splits_k: bool = True
) -> None:
    """One launch on contiguous BF16 x, float32 out, int32 ids, float32 gates.

    `tile`: most tokens of a tile, 8 to 128. `splits_k`: warpgroups lie along K too, where a tile has at most 24 tokens.
    """
    (num_tokens, hidden), top_k, device = x.shape, ids.shape[1], x.device
    if tile <= NARROW_TILE and num_tokens * top_k > MAX_NARROW_SLOTS:
        raise SelectionError(
            f"fragments: tiles of {tile} tokens take at most {MAX_NARROW_SLOTS} slots (got {num_tokens} tokens x {top_k})"
        )
    groups = -(-(num_tokens * top_k + 7 * packed.num_experts) // 8) + 16  # of 8 slots; a tile may read past the last
    sizes = [groups * 8 * _row_bytes(k) for k in (hidden, packed.intermediate)]  # x and h
    scratch = [torch.empty(num_bytes, dtype=torch.uint8, device=device) for num_bytes in sizes]
    barrier, num_blocks = _device_state(device)
    weights = (packed.gate_up, packed.down, packed.gate_up_scale, packed.down_scale)
    pointers = (t.data_ptr() for t in (*weights, x, ids, gates, *scratch, out, barrier))
    sizes = (num_tokens, top_k, packed.num_experts, hidden, packed.intermediate, groups)
    stream, choices = torch.cuda.current_stream(device).cuda_stream, (int(packed.format == "mxfp4"), tile, int(splits_k))
    error = _library().fp4moe_moe_sm90(*pointers, *sizes, *choices, num_blocks, stream)
    if error != 0:
        raise RuntimeError(f"fragments: launch failed with CUDA error {error}")


def _row_bytes(k: int) -> int:
    """K in BF16 up to whole stages of the widest kind, 512, each with 16 bytes that keep rows off each other's banks."""
    return -(-k // 512) * (512 * 2 + 16)


@cache
def _device_state(device: torch.device) -> tuple[Tensor, int]:
    """The counters of a launch (GridState), which every launch leaves at zero, and the number of blocks."""
    counter = torch.zeros(3 + MAX_EXPERTS, dtype=torch.int32, device=device)
    return counter, torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _library() -> ctypes.CDLL:
    library = load(SOURCE, TARGET)
    library.fp4moe_moe_sm90.argtypes = [ctypes.c_void_p] * 11 + [ctypes.c_int] * 10 + [ctypes.c_void_p]
    return library
