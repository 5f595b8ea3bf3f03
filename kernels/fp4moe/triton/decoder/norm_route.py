"""Residual sum, RMS norm and, where asked for, the router: one program a token.

    residual += delta;  normed = residual * rsqrt(mean(residual^2) + eps) * weight
    probability = softmax(router normed);  ids, weights = top k of it, renormalized

In: residual float32 [T, D] (updated in place), delta BF16 [T, D] or none, or token ids whose embedding starts the residual.
Out: normed BF16 [T, D]; int32 ids and float32 weights [T, K], ids once more as bytes for the recorder. Router products are
float32 sums of float32 activations, as in the reference. A table of imposed experts replaces the ids, never the weights' rule:
softmax over the logits of the experts that were imposed. Of equal probabilities the lower expert comes first.

Shapes: T tokens, D hidden, E experts, K experts a token, R rows of the imposed table [R, L, K].
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.bits import to_bf16
from fp4moe.triton.decoder.overlap import launch_options, let_next_start, wait_for_inputs
from fp4moe.triton.device import on_device


@triton.jit
def norm_route_kernel(
    residual_ptr, delta_ptr, embedding_ptr, token_ptr, slot_ptr, norm_ptr, out_ptr, router_ptr, ids_ptr, weights_ptr,
    recorded_ptr, imposed_ptr, counter_ptr, eps, layer, num_layers, imposed_rows, recorded_stride,
    D: tl.constexpr, BLOCK_D: tl.constexpr, IS_FIRST: tl.constexpr, BY_SLOT: tl.constexpr, HAS_ROUTER: tl.constexpr,
    IMPOSED: tl.constexpr, NUM_EXPERTS: tl.constexpr, BLOCK_E: tl.constexpr, TOP_K: tl.constexpr,
    BLOCK_K: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK_D)
    inside = column < D
    let_next_start(OVERLAP)
    norm = tl.load(norm_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_ROUTER:
        expert = tl.arange(0, BLOCK_E)
        is_expert = expert < NUM_EXPERTS
        rows = tl.load(
            router_ptr + expert[:, None] * D + column[None, :], mask=is_expert[:, None] & inside[None, :], other=0.0
        )
    wait_for_inputs(OVERLAP)
    if IS_FIRST:
        where = tl.load(slot_ptr + token).to(tl.int64) if BY_SLOT else token
        row = tl.load(token_ptr + where).to(tl.int64)
        x = tl.load(embedding_ptr + row * D + column, mask=inside, other=0.0).to(tl.float32)
    else:
        x = tl.load(residual_ptr + token * D + column, mask=inside, other=0.0)
        x += tl.load(delta_ptr + token * D + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(residual_ptr + token * D + column, x, mask=inside)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / D + eps)
    normed = x * scale * norm
    tl.store(out_ptr + token * D + column, to_bf16(normed), mask=inside)
    if HAS_ROUTER:
        logits = tl.sum(rows.to(tl.float32) * normed[None, :], axis=1)
        logits = tl.where(is_expert, logits, float("-inf"))
        grown = tl.exp(logits - tl.max(logits, axis=0))
        probability = grown / tl.sum(grown, axis=0)
        # What is left to choose from: a probability, +inf for NaN, -1 once taken, -2 where there is no expert.
        left = tl.where(probability == probability, probability, float("inf"))
        left = tl.where(is_expert, left, -2.0)
        place = tl.arange(0, BLOCK_K)
        ids = tl.zeros((BLOCK_K,), tl.int32)
        weights = tl.zeros((BLOCK_K,), tl.float32)
        imposed_row = 0
        if IMPOSED:
            # The counter passes 2^31 after days: without its sign bit, it is still a row.
            imposed_row = ((tl.load(counter_ptr) + token.to(tl.int32)) & 0x7FFFFFFF) % imposed_rows
        for k in tl.static_range(TOP_K):
            best = tl.argmax(left, axis=0, tie_break_left=True)
            if IMPOSED:
                best = tl.load(imposed_ptr + (imposed_row * num_layers + layer) * TOP_K + k)
            weight = tl.sum(tl.where(expert == best, probability, 0.0), axis=0)
            left = tl.where(expert == best, -1.0, left)
            ids = tl.where(place == k, best, ids)
            weights = tl.where(place == k, weight, weights)
        is_place = place < TOP_K
        tl.store(ids_ptr + token * TOP_K + place, ids, mask=is_place)
        tl.store(weights_ptr + token * TOP_K + place, weights / tl.sum(weights, axis=0), mask=is_place)
        tl.store(recorded_ptr + layer * recorded_stride + token * TOP_K + place, ids.to(tl.uint8), mask=is_place)


@dataclass(frozen=True, slots=True)
class Routed:
    """Where the routing of a layer is written. recorded: uint8 [L, T or more, K]; imposed int32 [R, L, K] or None."""

    router_ED: Tensor
    ids_TK: Tensor
    weights_TK: Tensor
    recorded_LTK: Tensor
    layer: int
    imposed_RLK: Tensor | None
    counter: Tensor


@dataclass(frozen=True, slots=True)
class First:
    """How the residual of the first layer starts: rows of the embedding, by token id, or by the last token of a slot."""

    embedding_VD: Tensor
    tokens: Tensor
    slots_T: Tensor | None


def norm_route(
    residual_TD: Tensor,
    delta_TD: Tensor | None,
    norm_D: Tensor,
    out_TD: Tensor,
    *,
    eps: float,
    first: First | None = None,
    routed: Routed | None = None,
) -> None:
    """Launch for every row of out_TD. Exactly one of `delta_TD` and `first` is given."""
    num_tokens, hidden = out_TD.shape
    unused = residual_TD
    top_k = 1 if routed is None else routed.ids_TK.shape[1]
    num_experts = 1 if routed is None else routed.router_ED.shape[0]
    imposed = None if routed is None else routed.imposed_RLK
    recorded = unused if routed is None else routed.recorded_LTK
    # A step's first kernel waits for the step before as a whole: slot_attention reads what that left without waiting.
    step_begins = {} if first is None else {"launch_pdl": False}
    with on_device(out_TD):
        norm_route_kernel[(num_tokens,)](
            residual_TD,
            unused if delta_TD is None else delta_TD,
            unused if first is None else first.embedding_VD,
            unused if first is None else first.tokens,
            unused if first is None or first.slots_T is None else first.slots_T,
            norm_D,
            out_TD,
            unused if routed is None else routed.router_ED,
            unused if routed is None else routed.ids_TK,
            unused if routed is None else routed.weights_TK,
            recorded,
            unused if imposed is None else imposed,
            unused if routed is None else routed.counter,
            eps,
            0 if routed is None else routed.layer,
            1 if imposed is None else imposed.shape[1],
            1 if imposed is None else imposed.shape[0],
            0 if routed is None else recorded.stride(0),
            D=hidden,
            BLOCK_D=triton.next_power_of_2(hidden),
            IS_FIRST=first is not None,
            BY_SLOT=first is not None and first.slots_T is not None,
            HAS_ROUTER=routed is not None,
            IMPOSED=imposed is not None,
            NUM_EXPERTS=num_experts,
            BLOCK_E=triton.next_power_of_2(num_experts),
            TOP_K=top_k,
            BLOCK_K=triton.next_power_of_2(top_k),
            num_warps=num_warps(hidden, num_experts),
            **(launch_options(out_TD) | step_begins),
        )


def num_warps(hidden: int, num_experts: int) -> int:
    """A thread holds about 64 router weights at most, in whole warps up to 16."""
    wanted = hidden * max(num_experts, 4) // (64 * 32)
    return max(1, min(16, triton.next_power_of_2(wanted)))
