"""What must not depend on how a step is launched: sampling on slots and neighbours, imposed routing on anything.

In: a model, prompts. Out: lines. Tokens drawn from equal logits are the same bits in any slot and place of the batch. Whole
requests are compared at an equal number of lanes, where every kernel keeps its tile; an unlike order of float32 sums may still
turn a BF16 rounding, so one request in eight may differ.

Shapes: B requests, V vocabulary, R rows of an imposed table, L layers, K experts a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.quantize import quantize_weight
from fp4moe.runtime.gpu.checks.serving import requests_of, serve
from fp4moe.runtime.gpu.engine import GpuEngine
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.runtime.sampling import Sampling
from fp4moe.triton.decoder.next_token import SlotState, next_token

LEAST_SAME_REQUESTS = 0.85
TABLE_ROWS = 97  # a prime: no batch is in step with it
_PROMPT_TOKENS = 24


def check_codes(device: torch.device) -> Iterator[dict]:
    """A line for each format and method: a checkpoint quantized on the GPU has the codes and scales that a CPU gives it."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(4, 256, 512, generator=generator) * torch.exp2(torch.randn(4, 256, 1, generator=generator))
    for name, fmt in WEIGHT_FORMATS.items():
        for method in fmt.methods:
            here, there = quantize_weight(weights, name, method), quantize_weight(weights.to(device), name, method)
            pairs = [(getattr(here, part), getattr(there, part)) for part in ("codes", "scales", "tensor_scale")]
            unlike = sum(int((a.float() != b.float().cpu()).sum()) for a, b in pairs if a is not None)
            yield {"check": "codes as on a CPU", "format": name, "method": method, "unlike": unlike, "passed": unlike == 0}


def check_sampling(model: MixtralModel, ids: Sequence[int], *, count: int = 10, new_tokens: int = 24) -> Iterator[dict]:
    """The kernel alone, then whole requests among other neighbours in other slots."""
    yield _check_draws(model.device, model.config.vocab_size)
    starts = range(0, 2 * count * _PROMPT_TOKENS, _PROMPT_TOKENS)
    texts = [list(ids[start : start + _PROMPT_TOKENS]) for start in starts]
    mine, others = texts[:count], texts[count:]
    how = [Sampling(temperature=0.8, top_p=0.95, seed=100 + i) for i in range(count)]
    strangers = [Sampling(temperature=1.3, seed=900 + i) for i in range(count)]
    engine = GpuEngine(model, max_slots=2 * count, max_context=_PROMPT_TOKENS + new_tokens)
    asked = requests_of(mine, new_tokens, sampling=how)
    crowd = requests_of(others, new_tokens, sampling=strangers, prefix="x")
    first = serve(engine, [*asked, *crowd]).tokens
    engine.record_into(None)
    crowd = requests_of(others[::-1], new_tokens, sampling=[Sampling()] * count, prefix="x")
    second = serve(engine, [*crowd, *asked[::-1]]).tokens
    share = sum(first[r.request_id] == second[r.request_id] for r in asked) / count
    engine.record_into(None)
    greedy = serve(engine, requests_of(mine, new_tokens)).tokens
    is_random = sum(first[r.request_id] != greedy[r.request_id] for r in asked) > count // 2
    yield {
        "check": "sampling among other neighbours", "same": share, "limit": LEAST_SAME_REQUESTS, "is_random": is_random,
        "passed": share >= LEAST_SAME_REQUESTS and is_random,
    }  # fmt: skip


def _check_draws(device: torch.device, vocabulary: int) -> dict:
    """One row of logits, drawn alone and as the last of five in another slot, twelve tokens long."""
    generator = torch.Generator().manual_seed(0)
    logits_V = torch.randn(vocabulary, generator=generator).to(device)
    noise_BV = torch.randn(5, vocabulary, generator=generator).to(device)
    drawn = []
    for slots in ((3,), (0, 5, 1, 4, 2)):
        state = SlotState.of(6, device)
        state.temperature_S[:], state.top_p_S[:] = 0.7, 0.9
        state.seed_S[:] = torch.arange(7, dtype=torch.int32, device=device)
        state.seed_S[slots[-1]] = 1234
        slots_B = torch.tensor(slots, dtype=torch.int32, device=device)
        out_B, tokens = torch.empty_like(slots_B), []
        for _ in range(12):
            logits_BV = noise_BV[: len(slots)].clone()
            logits_BV[-1] = logits_V
            next_token(logits_BV, slots_B, state, out_B, is_sampled=True)
            tokens.append(int(out_B[-1]))
        drawn.append(tokens)
    return {"check": "draws", "passed": drawn[0] == drawn[1] and len(set(drawn[0])) > 1}


def check_imposed(model: MixtralModel, prompts: Sequence[list[int]], *, new_tokens: int = 8) -> Iterator[dict]:
    """Recorded experts are rows of the table, those of a prompt in its order; then the router's own again."""
    config = model.config
    table_RLK = _table(config.num_layers, config.num_experts, config.top_k)
    recorder = RoutingRecorder(config.num_layers)
    context = max(map(len, prompts)) + new_tokens
    engine = GpuEngine(model, max_slots=len(prompts), max_context=context, recorder=recorder)
    requests = requests_of(prompts, new_tokens)
    own = serve(engine, requests).tokens
    engine.impose_routing(torch.from_numpy(table_RLK))
    imposed = RoutingRecorder(config.num_layers)
    engine.record_into(imposed)
    served = serve(engine, requests)
    arrays = imposed.arrays()
    rows = {row.tobytes(): number for number, row in enumerate(table_RLK.astype(np.uint8))}
    found = [rows.get(np.ascontiguousarray(row).tobytes(), -1) for row in arrays["expert_ids"]]
    steps = [np.array(found)[arrays["step"] == step] for step in np.unique(arrays["step"])]
    in_order = all((np.diff(step) % TABLE_ROWS == 1).all() for step in steps)
    yield {
        "check": "imposed experts", "tokens": len(found), "not_in_table": found.count(-1), "in_order": bool(in_order),
        "errors": len(served.errors), "passed": -1 not in found and bool(in_order) and not served.errors and len(found) > 0,
    }  # fmt: skip
    engine.impose_routing(None)
    engine.record_into(None)
    share = sum(own[r.request_id] == tokens for r, tokens in _by_request(requests, serve(engine, requests).tokens))
    yield {
        "check": "own routing after imposed", "same": share / len(requests), "limit": LEAST_SAME_REQUESTS,
        "passed": share / len(requests) >= LEAST_SAME_REQUESTS,
    }  # fmt: skip


def _by_request(requests, tokens: dict[str, list[int]]):
    return [(request, tokens.get(request.request_id)) for request in requests]


def _table(num_layers: int, num_experts: int, top_k: int) -> np.ndarray:
    """int32 [R, L, K] of distinct experts, every row another."""
    generator = np.random.default_rng(5)
    table, seen = [], set()
    while len(table) < TABLE_ROWS:
        row = np.argsort(generator.random((num_layers, num_experts)), axis=1)[:, :top_k].astype(np.int32)
        if row.tobytes() not in seen:
            seen.add(row.tobytes())
            table.append(row)
    return np.stack(table)


def check_imposed_weights(device: torch.device) -> dict:
    """Router weights of imposed experts are the softmax over their logits, and sum to 1."""
    from fp4moe.triton.decoder.norm_route import Routed, norm_route

    tokens, hidden, experts, top_k = 37, 192, 8, 2
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    residual, delta, norm_D = normal(tokens, hidden), normal(tokens, hidden).bfloat16(), torch.ones(hidden, device=device)
    router_ED = (normal(experts, hidden) / hidden**0.5).bfloat16()
    table_RLK = torch.from_numpy(_table(2, experts, top_k)).to(device)
    out = torch.empty(tokens, hidden, dtype=torch.bfloat16, device=device)
    ids = torch.empty(tokens, top_k, dtype=torch.int32, device=device)
    weights = torch.empty(tokens, top_k, device=device)
    recorded = torch.zeros(2, tokens, top_k, dtype=torch.uint8, device=device)
    counter = torch.full((1,), 90, dtype=torch.int32, device=device)
    x = residual + delta.float()
    norm_route(residual, delta, norm_D.bfloat16(), out, eps=1e-5, routed=Routed(
        router_ED, ids, weights, recorded, 1, table_RLK, counter))  # fmt: skip
    wanted = table_RLK[(90 + torch.arange(tokens, device=device)) % TABLE_ROWS, 1]
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
    right = (normed @ router_ED.float().T).gather(1, wanted.long()).softmax(-1)
    error, total = float((weights - right).abs().max()), float((weights.sum(-1) - 1).abs().max())
    # float32 sums of 192 products of size 1/14 and an exp: 2^-24 x sqrt(192) of the logit's 3, with room for 8.
    limit = 2.0**-17
    same = torch.equal(ids, wanted) and torch.equal(recorded[1].int(), wanted)
    return {
        "check": "imposed weights", "same_ids": same, "error": error, "off_one": total, "limit": limit,
        "passed": same and error <= limit and total <= limit,
    }  # fmt: skip
