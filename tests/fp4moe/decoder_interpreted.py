"""Run under TRITON_INTERPRET=1 by test_decoder_interpreted.py: one JSON object a line, {"id": ..., ...}. Not a test module."""

import json

import torch
import torch.nn.functional as F

from fp4moe.reference.route import route
from fp4moe.runtime.layers import rms_norm, rotary_tables, rotate
from fp4moe.triton.decoder import slot_attention as attention
from fp4moe.triton.decoder.next_token import SlotState, next_token
from fp4moe.triton.decoder.norm_route import First, Routed, norm_route
from fp4moe.triton.decoder.rotary_store import rotary_store
from fp4moe.triton.decoder.thin_linear import thin_linear

CPU = torch.device("cpu")
EPS = 1e-5
H, G, D, CONTEXT, SLOTS = 6, 2, 32, 200, 4
POSITIONS = torch.arange(CONTEXT)
COS_SIN = tuple(table[:, 0, : D // 2].contiguous() for table in rotary_tables(POSITIONS, D, 1e4))


def say(id: str, **values) -> None:
    print(json.dumps({"id": id, **values}), flush=True)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def relative(found, right) -> float:
    return float((found.float() - right.float()).norm() / right.float().norm())


class Layer:
    """Inputs and outputs of norm_route for T tokens."""

    def __init__(self, tokens: int, hidden: int, experts: int, top_k: int) -> None:
        self.residual, self.delta = torch.randn(tokens, hidden), torch.randn(tokens, hidden).bfloat16()
        self.norm, self.router = torch.rand(hidden).bfloat16(), torch.randn(experts, hidden).bfloat16()
        self.out = torch.empty(tokens, hidden, dtype=torch.bfloat16)
        self.ids, self.weights = torch.empty(tokens, top_k, dtype=torch.int32), torch.empty(tokens, top_k)
        self.recorded = torch.full((3, tokens + 2, top_k), 99, dtype=torch.uint8)
        self.sum = self.residual + self.delta.float()
        self.normed = rms_norm(self.sum, self.norm, EPS)
        self.logits = self.normed @ self.router.float().T

    def run(self, imposed=None, counter: int = 0) -> None:
        routed = Routed(self.router, self.ids, self.weights, self.recorded, 1, imposed, ints(counter))
        norm_route(self.residual, self.delta, self.norm, self.out, eps=EPS, routed=routed)


def run_norm_route() -> None:
    for hidden, experts, top_k in ((192, 8, 2), (64, 5, 1), (96, 3, 3)):
        layer = Layer(4, hidden, experts, top_k)
        layer.run()
        right = route(layer.logits, top_k)
        tokens = len(layer.ids)
        say(
            f"route-{hidden}-{experts}-{top_k}",
            same_sum=torch.equal(layer.residual, layer.sum),
            out=float(((layer.out.float() - layer.normed).abs() / layer.normed.abs().clamp(min=1e-3)).max()),
            same_ids=torch.equal(layer.ids.long(), right.ids_TK),
            weights=float((layer.weights - right.weights_TK).abs().max()),
            recorded=torch.equal(layer.recorded[1, :tokens].int(), layer.ids),
            beyond=bool((layer.recorded[[0, 2]] == 99).all() and (layer.recorded[1, tokens:] == 99).all()),
        )
    layer = Layer(3, 64, 8, 2)
    layer.router[:] = 0
    layer.delta[1] = torch.nan
    layer.run()
    say("route-ties-and-nan", ids=layer.ids.tolist(), is_nan=layer.weights.isnan().tolist(),
        others=bool(layer.out[[0, 2]].isfinite().all()))  # fmt: skip
    layer, table = Layer(5, 64, 8, 2), torch.stack([torch.randperm(8)[:2] for _ in range(21)]).view(7, 3, 2).int()
    layer.run(table, counter=5)
    wanted = table[(5 + torch.arange(5)) % 7, 1]
    right = layer.logits.gather(1, wanted.long()).softmax(-1)
    say("route-imposed", same_ids=torch.equal(layer.ids, wanted), weights=float((layer.weights - right).abs().max()),
        recorded=torch.equal(layer.recorded[1, :5].int(), wanted))  # fmt: skip
    # The counter runs on for days: beyond 2^31 it must not turn into a row before the table.
    layer.run(table[:4], counter=-3)
    say("route-imposed-after-2-to-the-31", same_ids=all(row in table[:4, 1].tolist() for row in layer.ids.tolist()))
    embedding = torch.randn(11, 48).bfloat16()
    last, slots = ints(3, 4, 5, 9), ints(2, 0)
    for name, tokens, by_slot, rows in (("slot", last, slots, [5, 3]), ("token", ints(7, 1), None, [7, 1])):
        residual, out = torch.empty(2, 48), torch.empty(2, 48, dtype=torch.bfloat16)
        first = First(embedding, tokens, by_slot)
        norm_route(residual, None, torch.ones(48).bfloat16(), out, eps=EPS, first=first)
        say(f"first-by-{name}", same=torch.equal(residual, embedding[rows].float()))


def run_thin_linear() -> None:
    for tokens, outputs, inputs in ((1, 10, 2100), (3, 70, 450), (32, 40, 96)):
        x, w = torch.randn(tokens, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
        right = x.float() @ w.float().T
        wide, narrow = torch.full((tokens, outputs), torch.nan), torch.empty(tokens, outputs, dtype=torch.bfloat16)
        thin_linear(x, w, wide)
        thin_linear(x, w, narrow)
        say(f"linear-{tokens}", error=relative(wide, right), rounded=torch.equal(narrow, wide.bfloat16()))


def heads_of(qkv, positions):
    """Rotated queries and keys in BF16, values: what both attention kernels must see."""
    heads = qkv.float().view(len(qkv), -1, D)
    turned = rotate(heads[:, : H + G], *rotary_tables(positions, D, 1e4)).bfloat16()
    return turned[:, :H], turned[:, H:], heads[:, H + G :].bfloat16()


def run_rotary_store() -> torch.Tensor:
    """Slot 2 filled with 150 tokens; the cache is used by attention."""
    cache = torch.zeros(2, SLOTS * CONTEXT + 1, G, D, dtype=torch.bfloat16)
    count = 150
    qkv = torch.randn(count, (H + 2 * G) * D).bfloat16()
    queries, keys, values = heads_of(qkv, POSITIONS[:count])
    slots, stride = torch.full((count,), 2, dtype=torch.int32), CONTEXT * G * D
    rotary_store(qkv, COS_SIN, POSITIONS[:count].int(), slots, tuple(cache), slot_stride=stride, heads=(H, G))
    found, rows = qkv.view(count, -1, D), slice(2 * CONTEXT, 2 * CONTEXT + count)
    stored = torch.equal(cache[0, rows], found[:, H : H + G]) and torch.equal(cache[1, rows], values)
    untouched = not cache[:, : 2 * CONTEXT].any() and not cache[:, rows.stop :].any()
    say("rotary", queries=relative(found[:, :H], queries), keys=relative(found[:, H : H + G], keys), stored=stored,
        values=torch.equal(found[:, H + G :], values), untouched=bool(untouched))  # fmt: skip
    return cache


def run_attention(filled: torch.Tensor) -> None:
    """Slots 0 to 3 hold 0, 37, 150 and 64 tokens; what lies beyond them is NaN and must not be read."""
    held = (0, 37, 150, 64)
    cache = torch.full_like(filled, torch.nan)
    for slot, count in enumerate(held):
        cache[:, slot * CONTEXT : slot * CONTEXT + count] = filled[:, 2 * CONTEXT : 2 * CONTEXT + count]
    for name, programs in (("one-program", 1), ("many-programs", 264)):
        attention._WANTED_PROGRAMS = programs
        mine, slots = cache.clone(), ints(2, 0, 3, 1)
        positions, scratch = ints(*held, 0), attention.Scratch.of(4, G, D, CPU)
        qkv, out = torch.randn(4, (H + 2 * G) * D).bfloat16(), torch.empty(4, H * D, dtype=torch.bfloat16)
        sizes = {"slot_stride": CONTEXT * G * D, "heads": (H, G)}
        for _ in range(2):  # the second launch finds the scratch as the first one left it
            attention.slot_attention(qkv, COS_SIN, positions, slots, tuple(mine), out, scratch=scratch, **sizes)
        for row, slot in enumerate(slots.tolist()):
            p, start = held[slot], slot * CONTEXT
            queries, keys, values = heads_of(qkv[row : row + 1], torch.tensor([p]))
            k, v = (torch.cat([side, new]).float().repeat_interleave(H // G, 1).transpose(0, 1)
                    for side, new in ((cache[0, start : start + p], keys), (cache[1, start : start + p], values)))  # fmt: skip
            right = F.scaled_dot_product_attention(queries.float().transpose(0, 1), k, v).transpose(0, 1)
            appended = torch.equal(mine[0, start + p], keys[0]) and torch.equal(mine[1, start + p], values[0])
            say(f"attention-{name}-{p}", error=relative(out[row].view(1, H, D), right), appended=appended,
                arrived=int(scratch.arrived.sum()), splits=attention.num_splits(4, G))  # fmt: skip


def drawn(logits_V, requests: int, rounds: int, **how) -> list[int]:
    """Counts by id over requests * rounds draws."""
    state, out = SlotState.of(requests, CPU), torch.empty(requests, dtype=torch.int32)
    state.temperature_S[:], state.top_p_S[:] = how.get("temperature", 1.0), how.get("top_p", 1.0)
    state.seed_S[:requests] = torch.arange(requests, dtype=torch.int32) * 7919
    counts = torch.zeros(len(logits_V), dtype=torch.long)
    slots, logits_BV = torch.arange(requests, dtype=torch.int32), logits_V.expand(requests, -1).contiguous()
    for _ in range(rounds):
        next_token(logits_BV, slots, state, out, is_sampled=True)
        counts += out.long().bincount(minlength=len(logits_V))
    return counts.tolist()


def run_next_token() -> None:
    logits = torch.randn(4, 5000)
    logits[1, 7] = logits[1, 4100] = 9.0
    logits[2, 4999] = torch.nan
    state, slots, out = SlotState.of(4, CPU), ints(3, 1, 0, 4), torch.empty(4, dtype=torch.int32)
    state.position_S[:4] = ints(10, 20, 30, 40)
    next_token(logits, slots, state, out, is_sampled=False)
    say("greedy", out=out.tolist(), right=[int(logits[0].argmax()), 7, -1, int(logits[3].argmax())],
        position=state.position_S.tolist(), last=[int(state.last_S[3]), int(state.last_S[1])])  # fmt: skip
    next_token(logits[:2], slots[:2], state, out[:2], is_sampled=False, lengths_B=ints(5, 6))
    say("after-a-prompt", position=state.position_S.tolist())
    base = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
    say("temperature", counts=drawn(base, 30, 10, temperature=2.0), right=(base / 2).softmax(-1).tolist())
    say("top-p", counts=drawn(base, 30, 6, top_p=0.8), right=[*base[:2].softmax(-1).tolist(), 0, 0, 0])
    say("top-p-tiny", counts=drawn(base, 6, 1, top_p=1e-6))
    tied = torch.tensor([1.0, 0.0, 0.0, -9.0])
    say("top-p-ties", counts=drawn(tied, 30, 1, top_p=0.6))  # .58 + .21 would do: the other .21 stays too
    from fp4moe.runtime.gpu.checks.sameness import _check_draws

    say("neighbours", **_check_draws(CPU, 50))
    mixed = SlotState.of(2, CPU)
    mixed.temperature_S[0], mixed.seed_S[0] = 5.0, 3
    rows, out, greedy = torch.randn(2, 30), torch.empty(2, dtype=torch.int32), []
    for _ in range(4):
        next_token(rows, ints(0, 1), mixed, out, is_sampled=True)
        greedy.append(int(out[1]))
    say("greedy-beside-sampled", out=greedy, right=int(rows[1].argmax()))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    run_norm_route()
    run_thin_linear()
    run_attention(run_rotary_store())
    run_next_token()
