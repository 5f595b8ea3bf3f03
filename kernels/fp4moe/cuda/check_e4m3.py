"""Check the FP4 x FP8 kernel of Hopper, stage by stage and as a whole: called by check.py, one dict a line. Nothing is timed.

The reference is FP8 x FP8 in float32 on `as_fp8` weights, which is this kernel's arithmetic. Each stage is held against the
reference on the kernel's own input to that stage, so a rounding that flips in one does not hide an error of the next:
    x, h   E4M3 codes equal E4M3(value / scale), scale = amax / 448, rounded to nearest: none may differ. (The reference on a
           GPU multiplies amax by 1 / 448: its scale may be a unit off, and BF16 over BF16 / 448 lies on ties of E4M3 often.)
    h, y   |found - right| / |right| (Frobenius): sums(K), twice for h, which has two, and a rounding to BF16 of 2^-9
A tensor core of Hopper keeps 13 bits behind the largest term's first and drops the rest (arXiv:2412.19437, 3.3.2): over n
steps of 32 terms at most n * 2^-13 of the largest partial sum. Random sums grow with the root of n, so all together two
thirds of that, and half of it on average where what is dropped is uniform: K terms, K / 32 steps: sums(K) = K / 96 * 2^-13,
2^-7.6 for 4096. Measured on an H100: less than half of it. The whole layer also rounds h that is off by so much to neighbors
a step, 2^-3, away: sqrt(off * 2^-3), doubled for the scatter of few tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fp4moe import reference
from fp4moe.cuda import e4m3
from fp4moe.cuda.e4m3_layout import as_fp8
from fp4moe.formats import E4M3_MAX
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.quantize import dequantize
from fp4moe.reference.product import product
from fp4moe.reference.route import Routing

BF16 = 2.0**-9
TILES = (e4m3.NARROW_TOKENS, e4m3.WIDE_TOKENS)


def rounded_rows(stored: Tensor, positions: Tensor, k: int) -> Tensor:
    """E4M3 [S, K] in natural order, out of the order of the tensor core."""
    rows = stored.view(-1, stored.shape[0] // 8, 8, 8, 4, 4)[:, positions // 8, positions % 8]  # [C, S, place, t, i]
    place = torch.arange(8, device=stored.device) ^ (positions[:, None] % 8)
    rows = rows.take_along_dim(place[None, :, :, None, None], 2)
    return rows.permute(1, 0, 3, 2, 4).reshape(-1, k).contiguous().view(torch.float8_e4m3fn)


def sums(k: int) -> float:
    """What a tensor core's sums of k terms may be off by, see above."""
    return k / 96 * 2.0**-13


def check_stages(
    scratch: e4m3.Scratch, x_TD: Tensor, out_TD: Tensor, rows: RowExperts, routing: Routing
) -> dict[str, tuple[float, float]]:
    """Stage -> (error, limit). Positions: slots in order of expert, an expert's first on a multiple of 8."""
    counts_E = routing.counts_E.cpu()
    starts_E = torch.cat([torch.zeros(1, dtype=torch.long), ((counts_E + 7) // 8 * 8).cumsum(0)[:-1]])
    within_S = torch.cat([torch.arange(int(count)) for count in counts_E])
    positions = (starts_E.repeat_interleave(counts_E) + within_S).to(x_TD.device)
    tokens_S = routing.token_of_row_S
    found = {}
    x_SD, scale_S = rounded_rows(scratch.x, positions, x_TD.shape[1]), scratch.x_scale[positions]
    codes_SD, right_S = _rounded(x_TD.float()[tokens_S])
    found["x"] = _differing(x_SD, codes_SD), 0.0
    found["x scale"] = float((scale_S / right_S - 1).abs().max()), 0.0
    h_SF = _products(x_SD.float() * scale_S[:, None], rows.gate_up, routing, gated=True)
    own_SF = scratch.h[positions].float()
    found["h"] = float((own_SF - h_SF).norm() / h_SF.norm()), 2 * sums(x_TD.shape[1]) + BF16
    codes_SF, right_S = _rounded(own_SF)
    found["h codes"] = _differing(rounded_rows(scratch.h_rounded, positions, own_SF.shape[1]), codes_SF), 0.0
    weighted_S = right_S * routing.weights_TK.flatten()[routing.order_S]
    found["h scale"] = float((scratch.h_scale[positions] / weighted_S - 1).abs().max()), 0.0
    y_SD = _products(codes_SF.float() * scratch.h_scale[positions][:, None], rows.down, routing, gated=False)
    y_TD = torch.zeros(x_TD.shape, device=x_TD.device).index_add_(0, tokens_S, y_SD)
    found["y"] = float((out_TD.float() - y_TD).norm() / y_TD.norm()), sums(own_SF.shape[1]) + BF16
    return found


def layer(
    x_TD: Tensor, packed: e4m3.E4m3Experts, rows: RowExperts, routing: Routing, tile: int
) -> Iterator[tuple[str, float, float]]:
    """(stage, error, limit) of one launch into an output full of NaN."""
    out_TD = torch.full_like(x_TD, float("nan"))
    ids, gates = routing.ids_TK.int(), routing.weights_TK.float()
    scratch = e4m3.launch(x_TD, ids, gates, packed, out=out_TD, tile=tile)
    for stage, (error, limit) in check_stages(scratch, x_TD, out_TD, rows, routing).items():
        yield stage, error, limit
    right = reference.down(reference.gate_up(x_TD.float(), rows.gate_up, routing, "fp8"), rows.down, routing, "fp8")
    h_limit, y_limit = 2 * sums(packed.hidden) + BF16, sums(packed.intermediate) + BF16
    error = float((out_TD.float() - right).norm() / right.norm())
    yield "layer", error, 2 * (y_limit + (h_limit * 2.0**-3) ** 0.5)


def both(gate_up: QuantizedTensor, down: QuantizedTensor) -> tuple[e4m3.E4m3Experts, RowExperts]:
    """The kernel's weights, and the FP8 ones that they stand for."""
    return e4m3.pack(gate_up, down), RowExperts(as_fp8(gate_up), as_fp8(down))


def _products(x_SK: Tensor, w: QuantizedTensor, routing: Routing, *, gated: bool) -> Tensor:
    """Of rows sorted by expert, float32."""
    out = x_SK.new_empty(x_SK.shape[0], w.shape[-2] // (2 if gated else 1))
    for expert, rows in routing.expert_rows():
        y = product(x_SK[rows], dequantize(w[expert]))
        gate, up = y.chunk(2, dim=-1) if gated else (y, None)
        out[rows] = torch.nn.functional.silu(gate) * up if gated else y
    return out


def _rounded(x_SK: Tensor) -> tuple[Tensor, Tensor]:
    """(E4M3 [S, K], float32 scales [S]) by divisions rounded to nearest, also where a device divides otherwise."""
    scale_S = (x_SK.abs().amax(-1).double() / E4M3_MAX).float()
    scale_S = torch.where(scale_S == 0, 1.0, scale_S)
    return (x_SK / scale_S[:, None]).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale_S


def _differing(found: Tensor, right: Tensor) -> float:
    """Share of codes that differ; the kernel gives a zero no sign."""
    return float((found.float() != right.float()).float().mean())
