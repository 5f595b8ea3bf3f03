"""Run under TRITON_INTERPRET=1 by test_triton_interpreted.py: one JSON object a line, {"id": ..., ...}. Not a test module."""

import json
from dataclasses import replace

import torch
import triton
import triton.language as tl

from fp4moe import reference
from fp4moe.formats import decode_table
from fp4moe.layouts import RowExperts
from fp4moe.quantize import quantize_activation, quantize_weight
from fp4moe.triton.bits import expand_words, k_of_position, unfold_factor
from fp4moe.triton.experts import experts
from fp4moe.triton.route import route
from fp4moe.triton.rows import rounded_rows
from fp4moe.triton.sort import sort_slots
from triton_cases import CASES, Case

POSITIONS = torch.arange(128)
K_OF_POSITION = k_of_position.fn(POSITIONS)


def say(id: str, **values) -> None:
    print(json.dumps({"id": id, **values}), flush=True)


def weight(rows: int, columns: int, case: Case):
    w = torch.randn(case.num_experts, rows, columns, generator=torch.Generator().manual_seed(rows)) * columns**-0.5
    q = quantize_weight(w, case.weights)
    if not case.row_scales:
        return q
    spread = 1 + torch.rand(case.num_experts, rows, generator=torch.Generator().manual_seed(1))
    return replace(q, tensor_scale=q.tensor_scale[:, None] * spread)


def expected(x_TD, packed: RowExperts, routing, activations: str):
    h_SF = reference.gate_up(x_TD.float(), packed.gate_up, routing, activations)
    return reference.down(h_SF, packed.down, routing, activations)


def relative(found, right) -> float:
    return float((found.float() - right).norm() / right.norm())


def run_case(case: Case) -> None:
    packed = RowExperts(weight(2 * case.intermediate, case.hidden, case), weight(case.hidden, case.intermediate, case))
    ids_TK = torch.tensor(case.experts_TK, dtype=torch.int32)
    weights_TK = torch.rand(ids_TK.shape, generator=torch.Generator().manual_seed(2)) + 0.1
    routing = reference.Routing(ids_TK, weights_TK / weights_TK.sum(-1, keepdim=True), case.num_experts)
    x_TD = torch.randn(len(ids_TK), case.hidden, generator=torch.Generator().manual_seed(3)).to(getattr(torch, case.dtype))
    y_TD = experts(x_TD, packed, routing, case.activations)
    if case.nan_token is not None:
        x_TD[case.nan_token, 5] = torch.nan
        found = experts(x_TD, packed, routing, case.activations)
        others = torch.arange(len(x_TD)) != case.nan_token
        say(case.id, all_nan=bool(found[case.nan_token].isnan().all()), others_same=torch.equal(found[others], y_TD[others]))
        return
    right = expected(x_TD, packed, routing, case.activations)
    wrong = expected(x_TD, packed, routing, "bf16")
    same_type = y_TD.dtype == x_TD.dtype and y_TD.shape == x_TD.shape
    say(case.id, error=relative(y_TD, right), same_type=same_type, error_without_fp8=relative(wrong, right))


@triton.jit
def expand_kernel(words_ptr, scales_ptr, out_ptr, FORMAT: tl.constexpr, N: tl.constexpr, SCALES: tl.constexpr):
    row = tl.arange(0, N)[:, None]
    words = tl.load(words_ptr + row * 16 + tl.arange(0, 16)[None, :])
    scales = tl.load(scales_ptr + row * SCALES + tl.arange(0, SCALES)[None, :])
    value = expand_words(words, scales, FORMAT, N, 128).to(tl.float32) * unfold_factor(FORMAT)
    tl.store(out_ptr + row * 128 + tl.arange(0, 128)[None, :], value)


def run_expand(format: str, element: str, first_scale: int, num_scales: int, scales_a_row: int) -> None:
    """Every code under every scale code, exactly."""
    codes_NK = torch.arange(16).repeat(8).expand(num_scales, 128)
    packed_N = (codes_NK[:, 0::2] | codes_NK[:, 1::2] << 4).to(torch.uint8).contiguous()
    scales = (first_scale + torch.arange(num_scales)) % 256
    out_NK = torch.empty(num_scales, 128)
    stored = scales[:, None].to(torch.uint8).expand(-1, scales_a_row).contiguous()
    expand_kernel[(1,)](packed_N.view(torch.int32), stored, out_NK, FORMAT=format, N=num_scales, SCALES=scales_a_row)
    right_NK = decode_table("e2m1")[codes_NK] * decode_table(element)[scales][:, None]
    right_NK = right_NK[:, K_OF_POSITION]
    same = (out_NK == right_NK) | (out_NK.isnan() & right_NK.isnan())
    say(f"expand-{format}", num_wrong=int((~same).sum()), num_nan=int(right_NK.isnan().any(-1).sum()))


def run_rows() -> None:
    x_RK = torch.randn(4, 200) * torch.exp2(torch.randint(-14, 9, (4, 200)).float())
    x_RK[2] = 0
    x_RK[3, :17] = torch.tensor([448.0, *(2.0 ** -torch.arange(16))])  # scale 1: E4M3's subnormals and their ties
    rows, _ = rounded_rows(x_RK, "bf16", torch.bfloat16, permute=True)
    padded_RK = torch.nn.functional.pad(x_RK.bfloat16(), (0, 56))
    permuted_RK = torch.cat([padded_RK[:, K_OF_POSITION], padded_RK[:, 128 + K_OF_POSITION]], dim=1)
    say("rows-bf16", same=torch.equal(rows, permuted_RK))
    codes, scales = rounded_rows(x_RK, "fp8", torch.float8_e4m3fn, permute=False)
    right = quantize_activation(x_RK, "fp8")
    say(
        "rows-fp8",
        same_codes=torch.equal(codes[:, :200].float(), right.codes.float()),
        zero_padding=not codes[:, 200:].float().any(),
        same_scales=torch.equal(scales[:, None], right.scales),
    )


def run_route() -> None:
    for num_tokens, num_experts, top_k in ((1, 8, 2), (19, 8, 2), (5, 3, 3), (4, 20, 1)):
        logits_TE = torch.randn(num_tokens, num_experts, generator=torch.Generator().manual_seed(7))
        found, right = route(logits_TE, top_k), reference.route(logits_TE, top_k)
        error = float((found.weights_TK - right.weights_TK).abs().max())
        same_ids = torch.equal(found.ids_TK.long(), right.ids_TK)
        say(f"route-{num_tokens}-{num_experts}-{top_k}", same_ids=same_ids, error=error, dtype=str(found.ids_TK.dtype))
    say("route-ties", ids=route(torch.zeros(2, 5), 2).ids_TK.tolist())
    found = route(torch.tensor([[0.0, torch.nan, 1.0], [0.0, 2.0, 1.0]]), 2)
    say("route-nan", ids=found.ids_TK.tolist(), is_nan=found.weights_TK.isnan().tolist())
    say("route-no-tokens", shape=list(route(torch.empty(0, 4), 2).ids_TK.shape))


def run_sort() -> None:
    for name, ids_TK, num_experts, tile in (
        ("example", [[1], [0], [1], [1]], 2, 2),
        ("one-slot", [[3]], 5, 16),
        ("one-expert-many-tiles", [[2]] * 1100, 3, 4),
        ("many-experts", torch.randint(0, 40, (60, 2), generator=torch.Generator().manual_seed(0)).tolist(), 40, 16),
    ):
        found = sort_slots(torch.tensor(ids_TK), num_experts, tile)
        say(f"sort-{name}", ids=ids_TK, num_experts=num_experts, tile=tile,
            slots=found.slot_of_row.tolist(), experts=found.expert_of_tile.tolist())  # fmt: skip


if __name__ == "__main__":
    run_route()
    run_sort()
    run_rows()
    run_expand("nvfp4", "e4m3", 0, 256, 8)
    run_expand("mxfp4", "e8m0", 62, 128, 4)
    for case in CASES:
        run_case(case)
