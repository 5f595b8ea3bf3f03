"""The GPU engine against the plain one on a trained model: every token, logit and routing decision.

In: a loaded model, the held-out text. Out: lines. A token or an expert may differ from the plain engine's only where the
reference, under the experts that were taken until then, holds the two within twice the bound of forced.py: one bound for each
of the two logits that are compared.

Shapes: W windows, T tokens, V vocabulary, L layers, K experts a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe.runtime.engine import Engine
from fp4moe.runtime.gpu.checks.forced import bounds, chosen_gaps, forced
from fp4moe.runtime.gpu.checks.serving import Served, first_difference, overwrite_free_memory, requests_of, serve, windows
from fp4moe.runtime.gpu.engine import GpuEngine
from fp4moe.runtime.gpu.passes import DecoderPasses
from fp4moe.runtime.gpu.scoring import score
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.recorder import RoutingRecorder

NEW_TOKENS = 40
# FP8 activations that fall on two sides of a rounding differ by 2^-4, a BF16 operand by 2^-8: more near-ties turn.
LEAST_ROUTING_AGREEMENT = {"bf16": 0.99, "fp8": 0.97}
# A request parts with the plain engine at its first near-tie; half of them meet none in 40 tokens, with FP8 few.
LEAST_ALIKE = {"bf16": 1 / 3, "fp8": 1 / 12}
MOST_PERPLEXITY_SHARE = 1e-3
_BATCH = 8  # windows scored at once: 4096 tokens of 512


def check_tokens(
    model: MixtralModel, prompts: Sequence[list[int]], *, new_tokens: int = NEW_TOKENS, max_slots: int = 16, **options
) -> Iterator[dict]:
    """Greedy tokens and recorded experts of both engines; `options` are the GPU engine's.

    With one slot every prompt is a step of its own, a graph where it is short.
    """
    context = max(map(len, prompts)) + new_tokens
    requests = requests_of(prompts, new_tokens)
    plain = serve(Engine(model, max_slots=max_slots, max_context=context), requests)
    recorder = RoutingRecorder(model.config.num_layers)
    engine = GpuEngine(model, max_slots=max_slots, max_context=context, recorder=recorder, **options)
    overwrite_free_memory(model.device)
    found, options = serve(engine, requests), {"max_slots": max_slots} | options
    is_complete = all(len(found.tokens.get(r.request_id, ())) == r.max_new_tokens for r in requests)
    differs = {r.request_id: first_difference(plain.tokens[r.request_id], found.tokens[r.request_id]) for r in requests}
    num_alike = sum(place is None for place in differs.values())
    least = int(len(requests) * LEAST_ALIKE[model.precision.activations])
    yield {
        "check": "tokens", "options": options, "requests": len(requests), "new_tokens": new_tokens, "alike": num_alike,
        "first_differences": {name: place for name, place in differs.items() if place is not None},
        "passed": is_complete and not found.errors and num_alike >= least,
    }  # fmt: skip
    if is_complete:
        yield check_served(model, prompts, found, recorder) | {"options": options}


def check_served(model: MixtralModel, prompts: Sequence[list[int]], found: Served, recorder: RoutingRecorder) -> dict:
    """Every greedy token and every routing decision of requests r0, r1, ... under the reference."""
    arrays = recorder.arrays()
    num_tokens, gap, router_gap, limit, router_limit = 0, 0.0, 0.0, 0.0, 0.0
    for number, prompt in enumerate(prompts):
        new = found.tokens[f"r{number}"]
        sequence_1T = torch.tensor(prompt + new[:-1]).unsqueeze(0)
        ids_TLK = torch.from_numpy(arrays["expert_ids"][arrays["request"] == number])[: sequence_1T.shape[1]]
        right = forced(model, sequence_1T, ids_TLK)
        bound = bounds(model, sequence_1T, ids_TLK, right)
        limit, router_limit = max(limit, 2 * bound.logit), max(router_limit, 2 * bound.router)
        gap = max(gap, float(chosen_gaps(right.logits_NV[len(prompt) - 1 :], torch.tensor(new)).max()))
        router_gap = max(router_gap, float(right.regret_LN.max()))
        num_tokens += sequence_1T.shape[1]
    return {
        "check": "tokens under their experts", "tokens": num_tokens, "worst_gap": gap, "limit": limit,
        "worst_router_gap": router_gap, "router_limit": router_limit,
        "passed": gap <= limit and router_gap <= router_limit,
    }  # fmt: skip


def check_scoring(model: MixtralModel, ids: Sequence[int], *, count: int = 64, length: int = 512) -> Iterator[dict]:
    """Perplexity, the largest difference of a logit under the same experts, and the share of experts that agree."""
    tokens_WT = windows(ids, count=count, length=length)
    passes = DecoderPasses(model, max_context=length)
    recorders = [RoutingRecorder(model.config.num_layers) for _ in range(2)]
    nll, largest, bound = [0.0, 0.0], 0.0, 0.0
    for batch_WT in tokens_WT.split(_BATCH):
        plain = RoutingRecorder(model.config.num_layers)
        right, found = model.score(batch_WT, plain), score(passes, batch_WT, recorders[1])
        nll = [total + _nll(logits, batch_WT) for total, logits in zip(nll, (right, found), strict=True)]
        recorders[0].add_step("score", 0, plain.arrays()["expert_ids"], requests=plain.arrays()["request"])
        ids_NLK = torch.from_numpy(plain.arrays()["expert_ids"])
        bound = max(bound, bounds(model, batch_WT, ids_NLK, forced(model, batch_WT, ids_NLK)).logit)
        largest = max(largest, float((_under_same_experts(passes, batch_WT, plain) - right).abs().max()))
    perplexities = [exp(total / (count * (length - 1))) for total in nll]
    share = perplexities[1] / perplexities[0] - 1
    yield {
        "check": "perplexity", "windows": count, "tokens": length, "plain": perplexities[0], "gpu": perplexities[1],
        "relative": share, "limit": MOST_PERPLEXITY_SHARE, "passed": abs(share) <= MOST_PERPLEXITY_SHARE,
    }  # fmt: skip
    yield {"check": "logits under the same experts", "largest": largest, "limit": bound, "passed": largest <= bound}
    ids_NLK = [torch.from_numpy(recorder.arrays()["expert_ids"]).sort(-1).values for recorder in recorders]
    agreement = float((ids_NLK[0] == ids_NLK[1]).float().mean())
    limit = LEAST_ROUTING_AGREEMENT[model.precision.activations]
    yield {"check": "experts", "agree": agreement, "limit": limit, "passed": agreement >= limit}


def _nll(logits_WTV: Tensor, tokens_WT: Tensor) -> float:
    following = tokens_WT[:, 1:].flatten().to(logits_WTV.device)
    return float(F.cross_entropy(logits_WTV[:, :-1].flatten(0, 1), following, reduction="sum"))


def _under_same_experts(passes: DecoderPasses, batch_WT: Tensor, recorder: RoutingRecorder) -> Tensor:
    """The engine's logits with the reference's experts imposed, a row of the table a token."""
    passes.imposed_RLK = torch.from_numpy(recorder.arrays()["expert_ids"]).to(passes.device, torch.int32).contiguous()
    passes.counter.zero_()
    try:
        return score(passes, batch_WT)
    finally:
        passes.imposed_RLK = None
