"""From logits to each request's next token, and a step further in its slot, without the host: one program a request.

    greedy: argmax of logits, the lower id of equal ones
    sampled: argmax of logits / temperature + Gumbel noise over the ids with logits >= the request's threshold

In: logits float32 [B, V], a slot a request, sampling by slot. Out: the token [B] (-1 where a logit was NaN), and by slot the
last token and the position. The noise is counter-based (seed of the request, number of the token, id), so a request's tokens
depend on nobody else; they are not those of the reference's generator. `nucleus_thresholds` gives the smallest logit that
top_p keeps; equal logits at its edge are all kept.

Shapes: B requests, V vocabulary, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fp4moe.triton.decoder.overlap import launch_options, let_next_start, wait_for_inputs
from fp4moe.triton.device import on_device

BLOCK_V = {"greedy": 16384, "sampled": 4096}
"""Ids looked at in one go: a program is alone on its multiprocessor at small batches, so fewer rounds are less latency."""


@triton.jit
def next_token_kernel(
    logits_ptr, slot_ptr, length_ptr, threshold_ptr, temperature_ptr, seed_ptr, drawn_ptr, last_ptr, position_ptr, out_ptr,
    num_slots, V: tl.constexpr, BLOCK_V: tl.constexpr, IS_SAMPLED: tl.constexpr, IS_PROMPT: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    request = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + request).to(tl.int64)
    v = tl.arange(0, BLOCK_V)
    best = tl.full((BLOCK_V,), float("-inf"), tl.float32)
    best_at = tl.zeros((BLOCK_V,), tl.int32)
    wrong = tl.zeros((BLOCK_V,), tl.int32)
    temperature, threshold = 1.0, float("-inf")
    seed, drawn = 0, 0
    let_next_start(OVERLAP)
    wait_for_inputs(OVERLAP)
    if IS_SAMPLED:
        temperature = tl.load(temperature_ptr + slot)
        threshold = tl.load(threshold_ptr + request)
        seed = tl.load(seed_ptr + slot)
        drawn = tl.load(drawn_ptr + slot)
    for start in range(0, V, BLOCK_V):
        inside = v < V - start
        logit = tl.load(logits_ptr + request * V + start + v, mask=inside, other=float("-inf"))
        wrong |= (logit != logit).to(tl.int32)
        score = logit
        if IS_SAMPLED:
            noise = -tl.log(-tl.log(tl.rand(seed, drawn * V + start + v)))
            drawn_score = tl.where(logit >= threshold, logit / tl.maximum(temperature, 1e-6) + noise, float("-inf"))
            score = tl.where(temperature > 0, drawn_score, logit)
        is_better = score > best
        best = tl.where(is_better, score, best)
        best_at = tl.where(is_better, start + v, best_at)
    top = tl.max(best, axis=0)
    token = tl.min(tl.where(best == top, best_at, V - 1), axis=0)
    is_wrong = tl.max(wrong, axis=0) > 0
    tl.store(out_ptr + request, tl.where(is_wrong, -1, token))
    tl.store(last_ptr + slot, token)
    if IS_PROMPT:
        tl.store(position_ptr + slot, tl.load(length_ptr + request))
    else:
        # The slot beyond the last is nobody's: lanes that fill up a batch stay at its position 0.
        grown = tl.load(position_ptr + slot) + 1
        tl.store(position_ptr + slot, tl.where(slot < num_slots, grown, 0))
    if IS_SAMPLED:
        tl.store(drawn_ptr + slot, drawn + 1)


@dataclass(frozen=True, slots=True)
class SlotState:
    """What the device knows of each slot: its last token, how many tokens it holds, and how it samples.

    There is one more slot than `num_slots`, for lanes that only fill up a batch.
    """

    num_slots: int
    last_S: Tensor
    position_S: Tensor
    temperature_S: Tensor
    top_p_S: Tensor
    seed_S: Tensor
    drawn_S: Tensor

    @classmethod
    def of(cls, num_slots: int, device: torch.device) -> SlotState:
        """Empty slots, greedy."""
        whole = [torch.zeros(num_slots + 1, dtype=torch.int32, device=device) for _ in range(4)]
        temperature, top_p = torch.zeros(num_slots + 1, device=device), torch.ones(num_slots + 1, device=device)
        return cls(num_slots, whole[0], whole[1], temperature, top_p, whole[2], whole[3])


def next_token(
    logits_BV: Tensor, slots_B: Tensor, state: SlotState, out_B: Tensor, *, is_sampled: bool, lengths_B: Tensor | None = None
) -> None:
    """Fill out_B and move `state` on. `lengths_B`: a prompt's length, after a prefill; None in a decode step."""
    num_requests, vocabulary = logits_BV.shape
    block = BLOCK_V["sampled" if is_sampled else "greedy"]
    thresholds = nucleus_thresholds(logits_BV, state, slots_B) if is_sampled else state.temperature_S
    with on_device(logits_BV):
        next_token_kernel[(num_requests,)](
            logits_BV, slots_B, slots_B if lengths_B is None else lengths_B, thresholds, state.temperature_S, state.seed_S,
            state.drawn_S, state.last_S, state.position_S, out_B, state.num_slots,
            V=vocabulary, BLOCK_V=min(block, triton.next_power_of_2(vocabulary)),
            IS_SAMPLED=is_sampled, IS_PROMPT=lengths_B is not None, num_warps=16,
            **launch_options(logits_BV),
        )  # fmt: skip


def nucleus_thresholds(logits_BV: Tensor, state: SlotState, slots_B: Tensor) -> Tensor:
    """float32 [B]: the smallest logit among the most likely ids that reach top_p; the most likely always stays."""
    slots_B = slots_B.long()
    temperature_B1 = state.temperature_S[slots_B].clamp(min=1e-6).unsqueeze(-1)
    ordered_BV = logits_BV.sort(dim=-1, descending=True).values
    probability_BV = (ordered_BV / temperature_B1).softmax(dim=-1)
    before_BV = probability_BV.cumsum(dim=-1) - probability_BV
    kept_BV = before_BV < state.top_p_S[slots_B].unsqueeze(-1)
    kept_BV[:, 0] = True
    return ordered_BV.masked_fill(~kept_BV, float("inf")).amin(dim=-1)
