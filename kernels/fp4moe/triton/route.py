"""Which experts each token goes to: softmax over all experts in float32, top-k, renormalized, in one kernel.

In: router logits [T, E], any float dtype. Out: `Routing` with int32 ids and float32 weights; of equal probabilities the
lower expert id comes first. The slots are not sorted here: experts.py sorts on the device, and nothing waits for the host.
A row of logits with NaN gets experts 0 to k - 1 with NaN weights. exp is the GPU's (2 units in the last place), so two
probabilities that close may come in another order than in the reference. Source: as reference/route.py.

Shapes: T tokens, E experts, K experts a token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.errors import SelectionError
from fp4moe.reference.route import Routing
from fp4moe.triton.device import check_device, on_device

_LOGITS_A_PROGRAM = 2048


@triton.jit
def route_kernel(
    logits_ptr, ids_ptr, weights_ptr, num_tokens, token_stride, expert_stride,
    NUM_EXPERTS: tl.constexpr, TOP_K: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    expert = tl.arange(0, BLOCK_E)
    is_token = token < num_tokens
    where = token.to(tl.int64)[:, None] * token_stride + expert[None, :] * expert_stride
    is_logit = is_token[:, None] & (expert < NUM_EXPERTS)[None, :]
    logits = tl.load(logits_ptr + where, mask=is_logit, other=float("-inf")).to(tl.float32)
    logits = tl.where(is_token[:, None], logits, 0.0)
    grown = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    probability = tl.div_rn(grown, tl.broadcast_to(tl.sum(grown, axis=1)[:, None], grown.shape))
    # What is left to choose from: a probability, +inf for NaN, -1 once taken, -2 where there is no expert.
    left = tl.where(probability == probability, probability, float("inf"))
    left = tl.where((expert < NUM_EXPERTS)[None, :], left, -2.0)
    place = tl.arange(0, BLOCK_K)
    ids = tl.zeros((BLOCK_T, BLOCK_K), tl.int32)
    weights = tl.zeros((BLOCK_T, BLOCK_K), tl.float32)
    for k in tl.static_range(TOP_K):
        best = tl.argmax(left, axis=1, tie_break_left=True)
        is_best = expert[None, :] == best[:, None]
        weight = tl.sum(tl.where(is_best, probability, 0.0), axis=1)
        left = tl.where(is_best, -1.0, left)
        ids = tl.where(place[None, :] == k, best[:, None], ids)
        weights = tl.where(place[None, :] == k, weight[:, None], weights)
    weights = tl.div_rn(weights, tl.broadcast_to(tl.sum(weights, axis=1)[:, None], weights.shape))
    where = token[:, None] * TOP_K + place[None, :]
    is_place = is_token[:, None] & (place < TOP_K)[None, :]
    tl.store(ids_ptr + where, ids, mask=is_place)
    tl.store(weights_ptr + where, weights, mask=is_place)


def route(logits_TE: Tensor, top_k: int) -> Routing:
    """Softmax over all experts, the top k, renormalized; SelectionError off CUDA or for k outside 1 to E."""
    check_device(logits_TE, "triton route")
    num_tokens, num_experts = logits_TE.shape
    if not 1 <= top_k <= num_experts:
        raise SelectionError(f"triton route: top_k must be 1 to the number of experts {num_experts} (got {top_k})")
    ids_TK = torch.empty(num_tokens, top_k, dtype=torch.int32, device=logits_TE.device)
    weights_TK = torch.empty(num_tokens, top_k, dtype=torch.float32, device=logits_TE.device)
    block_e = triton.next_power_of_2(num_experts)
    block_t = max(1, min(16, _LOGITS_A_PROGRAM // block_e))
    if num_tokens:
        with on_device(logits_TE):
            route_kernel[(triton.cdiv(num_tokens, block_t),)](
                logits_TE, ids_TK, weights_TK, num_tokens, *logits_TE.stride(),
                NUM_EXPERTS=num_experts, TOP_K=top_k, BLOCK_T=block_t, BLOCK_E=block_e,
                BLOCK_K=triton.next_power_of_2(top_k), num_warps=4,
            )  # fmt: skip
    return Routing(ids_TK=ids_TK, weights_TK=weights_TK, num_experts=num_experts)
