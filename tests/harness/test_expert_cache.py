"""The expert cache: hand examples, a plain simulator as oracle, brute force for the optimum, speed.

The module finds every size in one pass over a stack; the oracle here keeps one set of residents for one size.
"""

import time
from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.collect.expert_cache import cold_share, simulate
from harness.collect.experts import RoutingError

E = 6
LAX = settings(deadline=None, max_examples=150, database=None)


def trace_of(*steps: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """One layer, top-1: each step's experts as that many tokens of the step."""
    pairs = [(expert, index) for index, step in enumerate(steps) for expert in sorted(step)]
    ids, step = np.array(pairs).T
    return ids[:, None, None].astype(np.uint8), step.astype(np.int32)


def hit_rates(ids, step, num_experts=E) -> dict[tuple[str, int], float]:
    return {(r["policy"], r["slots_per_layer"]): r["hit_rate"] for r in simulate(ids, step, num_experts, 1)}


@st.composite
def traces(draw, max_tokens: int = 40, layers: int = 2):
    """Random routing: layers x top-2 of E, with random step boundaries."""
    pair = st.lists(st.integers(0, E - 1), min_size=2, max_size=2, unique=True)
    token = st.lists(pair, min_size=layers, max_size=layers)
    tokens = draw(st.lists(token, min_size=1, max_size=max_tokens))
    advance = draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    return np.array(tokens, dtype=np.uint8), np.cumsum(advance).astype(np.int32)


def accesses_of(ids, step, layer) -> list[int]:
    rows = zip(step.tolist(), ids[:, layer].tolist(), strict=True)
    hit = [sorted({e for _, pair in group for e in pair}) for _, group in groupby(rows, key=lambda row: row[0])]
    return [expert for experts in hit for expert in experts]


def plain_hits(accesses: list[int], slots: int, policy: str) -> int:
    """The definition, one size at a time."""
    resident, hits = set(), 0
    for now, expert in enumerate(accesses):
        past, future = accesses[:now], accesses[now + 1 :]
        if expert in resident:
            hits += 1
            continue
        if len(resident) == slots:
            last = {e: now - past[::-1].index(e) for e in resident}
            order = {
                "lru": lambda e, last=last: last[e],
                "lfu": lambda e, last=last, past=past: (past.count(e), last[e]),
                "belady": lambda e, future=future: -(future.index(e) if e in future else len(future)),
            }
            resident.remove(min(sorted(resident), key=order[policy]))
        resident.add(expert)
    return hits


def most_hits(accesses: list[int], slots: int) -> int:
    """The best over every choice of eviction."""

    @cache
    def best(now: int, resident: frozenset[int]) -> int:
        if now == len(accesses):
            return 0
        expert = accesses[now]
        if expert in resident:
            return 1 + best(now + 1, resident)
        if len(resident) < slots:
            return best(now + 1, resident | {expert})
        return max(best(now + 1, resident - {victim} | {expert}) for victim in resident)

    return best(0, frozenset())


def test_hand_example_with_two_slots():
    # At 2 all evict 1, for 0 is newer, more frequent and used sooner: two hits, both on 0.
    rates = hit_rates(*trace_of({0}, {1}, {0}, {2}, {0}, {1}))
    assert [rates[policy, 2] for policy in ("lru", "lfu", "belady")] == [2 / 6] * 3


def test_policies_part_on_a_scan():
    # 0 0 0 1 2 0 with 2 slots: at 2, lru evicts 0 and loses it; lfu and belady evict 1.
    rates = hit_rates(*trace_of({0}, {0}, {0}, {1}, {2}, {0}))
    assert (rates["lru", 2], rates["lfu", 2], rates["belady", 2]) == (2 / 6, 3 / 6, 3 / 6)


def test_lfu_counts_from_the_start_and_also_while_evicted():
    # The first 2 meets 0 and 1 at two accesses each: 0 is older and goes. 0 comes back, for 2, with its third
    # access. The second 2 then evicts 1, and the last 0 hits; had 0 started again at one, it would miss.
    rates = hit_rates(*trace_of({0}, {0}, {1}, {1}, {2}, {0}, {2}, {0}))
    assert rates["lfu", 2] == 3 / 8


def test_lfu_counts_steps_not_tokens():
    # Expert 0 in three tokens of one step counts once; 1 has two accesses, so 0 goes and 1 stays.
    ids = np.array([0, 0, 0, 1, 1, 2, 1], dtype=np.uint8)[:, None, None]
    assert hit_rates(ids, np.array([0, 0, 0, 1, 2, 3, 4]))["lfu", 2] == 2 / 5


def test_cyclic_scan_defeats_lru_and_not_the_optimum():
    rates = hit_rates(*trace_of(*[{t % 4} for t in range(40)]))
    assert rates["lru", 3] == 0
    # Four cold misses; of the other 36, the optimum of c slots over m experts hits (c - 1) / (m - 1).
    assert rates["belady", 3] == 36 * 2 / 3 / 40


def test_rows_budgets_and_order():
    ids = np.array([[[0, 1], [2, 3]], [[0, 1], [4, 5]]], dtype=np.uint8)
    rows = simulate(ids, np.array([0, 1]), 8, 1000)
    assert [(r["policy"], r["slots_per_layer"]) for r in rows] == [
        (policy, slots) for policy in ("lru", "lfu", "belady") for slots in range(1, 9)
    ]
    assert rows[2] == {
        "slots_per_layer": 3,
        "budget_bytes": 3 * 2 * 1000,
        "policy": "lru",
        "hit_rate": 2 / 8,
        "num_accesses": 8,
    }


def test_tokens_of_one_step_share_an_access():
    ids = np.array([[[0, 1]], [[1, 0]], [[0, 2]]], dtype=np.uint8)
    assert simulate(ids, np.zeros(3, dtype=np.int32), 8, 1)[0]["num_accesses"] == 3


def test_cold_share_counts_first_touches_by_layer():
    ids = np.array([[[0], [0]], [[0], [1]], [[0], [0]]], dtype=np.uint8)
    assert cold_share(ids, np.arange(3), 8) == 3 / 6


@LAX
@given(traces())
def test_every_size_and_policy_equals_the_plain_simulator(trace):
    ids, step = trace
    by_layer = [accesses_of(ids, step, layer) for layer in range(2)]
    total = sum(map(len, by_layer))
    for (policy, slots), rate in hit_rates(ids, step).items():
        assert rate == sum(plain_hits(accesses, slots, policy) for accesses in by_layer) / total


@LAX
@given(traces(max_tokens=12, layers=1))
def test_belady_is_the_best_of_all_eviction_choices(trace):
    ids, step = trace
    accesses = accesses_of(ids, step, 0)
    rates = hit_rates(ids, step)
    for slots in range(1, E + 1):
        assert rates["belady", slots] == most_hits(accesses, slots) / len(accesses)


@LAX
@given(traces())
def test_order_of_policies_sizes_and_the_cold_limit(trace):
    ids, step = trace
    rates = hit_rates(ids, step)
    for policy in ("lru", "lfu", "belady"):
        by_size = [rates[policy, slots] for slots in range(1, E + 1)]
        assert by_size == sorted(by_size)
        assert by_size[-1] == pytest.approx(1 - cold_share(ids, step, E), abs=1e-12)
        assert all(rates["belady", slots] >= rates[policy, slots] for slots in range(1, E + 1))


def test_five_layers_of_three_thousand_steps_take_seconds():
    rng = np.random.default_rng(0)
    num_steps, batch = 3000, 4
    ids = rng.permuted(np.tile(np.arange(8), (num_steps * batch * 5, 1)), axis=1)[:, :2].astype(np.uint8)
    start = time.process_time()
    rows = simulate(ids.reshape(-1, 5, 2), np.repeat(np.arange(num_steps), batch), 8, 1)
    assert len(rows) == 24
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("num_experts", "expert_bytes", "message"),
    [
        pytest.param(2, 1, "of 2 experts", id="expert-out-of-range"),
        pytest.param(8, 0, "expert_bytes: must be at least 1", id="experts-without-size"),
    ],
)
def test_refusals(num_experts, expert_bytes, message):
    with pytest.raises(RoutingError, match=message):
        simulate(*trace_of({0}, {5}), num_experts, expert_bytes)
