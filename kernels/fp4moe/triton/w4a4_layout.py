"""Offline layout of FP4 experts for the W4A4 kernels: what one step of a program reads lies together in memory.

In: `QuantizedTensor` [E, 2F, D] (gate rows, then up rows) and [E, D, F], both NVFP4 or both MXFP4. Out: `W4A4Experts`. Bytes
are moved, never changed; 4.5 or 4.25 bits a weight as before, and one float32 scale a row.

A chunk is 128 rows x 128 k: 8192 bytes of codes, row by row, and its block scales.
    rows    down: as stored. gate_up: 8 gate rows, their 8 up rows, the next 8 gate rows ...; in the accumulator of mma.sync
            (SM120) a thread holds rows i and i + 8, so gate and up of an output meet in one thread
    scales  [k-groups of 4][32][4][4]: byte (group g, a, b, c) is the scale of row 32 b + a, block 4 g + c. That is how the
            tensor cores of SM100 hold block scales (128 x 4 bytes, 512 together).

Shapes: E experts, D hidden, F intermediate, R = rows // 128 row tiles, C = K // 128 chunks along k, BLOCK 16 or 32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor

TILE = 128  # rows and k of a chunk
LAYOUT = "triton-w4a4"
FORMATS = ("nvfp4", "mxfp4")


@dataclass(frozen=True, slots=True)
class W4A4Matrices:
    """A projection of all experts: codes uint8 [E, R, C, 128, 64], scales uint8 [E, R, C, 16384 / BLOCK], row_scale [E, N]."""

    codes: Tensor
    scales: Tensor
    row_scale: Tensor


@dataclass(frozen=True, slots=True)
class W4A4Experts:
    """Packed experts, see the module docstring; made by `pack`."""

    format: str
    gate_up: W4A4Matrices
    down: W4A4Matrices
    num_experts: int
    hidden: int
    intermediate: int
    layout: str = LAYOUT

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, for counting bytes and hashing."""
        parts = {"gate_up": self.gate_up, "down": self.down}
        return {f"{name}.{part}": getattr(m, part) for name, m in parts.items() for part in ("codes", "scales", "row_scale")}


def pack(gate_up: QuantizedTensor, down: QuantizedTensor) -> W4A4Experts:
    """[E, 2F, D] and [E, D, F] -> W4A4Experts; FormatError for other formats, or D or F not a multiple of 128."""
    num_experts, num_rows, hidden = _check(gate_up, "gate_up")
    if _check(down, "down") != (num_experts, hidden, num_rows // 2) or down.format != gate_up.format:
        raise FormatError(
            f"{LAYOUT}: down must be {gate_up.format} {[num_experts, hidden, num_rows // 2]} to follow gate_up "
            f"(got {down.format} {list(down.shape)}); pack the two projections of one layer"
        )
    gate_up_order = torch.arange(num_rows, device=gate_up.device).reshape(2, -1, 8).transpose(0, 1).reshape(-1)
    down_order = torch.arange(hidden, device=down.device)
    return W4A4Experts(
        format=gate_up.format,
        gate_up=_matrices(gate_up, gate_up_order),
        down=_matrices(down, down_order),
        num_experts=num_experts,
        hidden=hidden,
        intermediate=num_rows // 2,
    )


def _check(w: QuantizedTensor, name: str) -> tuple[int, ...]:
    if w.format not in FORMATS or len(w.shape) != 3:
        raise FormatError(f"{LAYOUT}: {name} must be nvfp4 or mxfp4 [E, N, K] (got {w.format} {list(w.shape)})")
    rows_of_one = w.shape[1] // 2 if name == "gate_up" else w.shape[1]
    if rows_of_one % TILE or w.shape[2] % TILE:
        raise FormatError(
            f"{LAYOUT}: {name} needs hidden and intermediate sizes that {TILE} divides "
            f"(got [E, N, K] = {list(w.shape)}); use triton-grouped or the reference"
        )
    return w.shape


def _matrices(w: QuantizedTensor, row_order: Tensor) -> W4A4Matrices:
    """An expert at a time, so that memory beside the result stays small."""
    num_experts, num_rows, num_columns = w.shape
    num_chunks = num_columns // TILE
    codes = torch.stack([_codes_of(w.codes[e][row_order], num_chunks) for e in range(num_experts)])
    scales = torch.stack([_scales_of(w.scales[e][row_order].view(torch.uint8), num_chunks) for e in range(num_experts)])
    row_scale = torch.ones((num_experts, num_rows), device=w.device)
    if w.tensor_scale is not None:
        row_scale = w.tensor_scale if w.has_row_tensor_scales else w.tensor_scale.unsqueeze(-1).expand(-1, num_rows)
        row_scale = row_scale[:, row_order]
    return W4A4Matrices(codes, scales, row_scale.contiguous())


def _codes_of(codes_NH: Tensor, num_chunks: int) -> Tensor:
    """[N, K / 2] -> [R, C, 128, 64]."""
    return codes_NH.reshape(-1, TILE, num_chunks, TILE // 2).transpose(1, 2).contiguous()


def _scales_of(scales_NG: Tensor, num_chunks: int) -> Tensor:
    """[N, K / BLOCK] -> [R, C, 16384 / BLOCK]; a tile's 128 rows are (b, a), the blocks (chunk, g, c)."""
    num_rows, num_blocks = scales_NG.shape
    tiles_RbaGc = scales_NG.reshape(num_rows // TILE, 4, 32, num_blocks // 4, 4)
    return tiles_RbaGc.permute(0, 3, 2, 1, 4).reshape(num_rows // TILE, num_chunks, -1)
