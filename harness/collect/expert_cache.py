"""Hit rate of an expert cache by its size, had it served a recorded trace.

In: routing as in `experts`. Out: one row a policy and number of slots. Says nothing of the time of a load.

The cache: each layer has its own `slots_per_layer` slots for its own experts, all empty at the start.
    budget_bytes = slots_per_layer * layers * expert_bytes
An access is (step, layer, expert): each step in order, each layer, the distinct experts hit in ascending id
order, one after another (so an expert that the same step has used may make room for the next). An access to
a resident expert is a hit. A miss loads the expert (no bypass) and, when no slot is free, evicts:
    lru     the resident accessed longest ago
    lfu     the resident with the fewest accesses since the start of the trace (counted also while it was not
            resident; a step counts once however many of its tokens used the expert); LRU among equals
    belady  the resident whose next access is furthest away (MIN): the optimum, which needs the future

Which of two residents goes first does not depend on the number of slots, so all three are stack algorithms
(Mattson, Gecsei, Slutz, Traiger 1970): one pass keeps the experts in a stack whose first c entries are what
a cache of c slots holds. An access found at depth d is a hit for every c > d. Hit rate never falls with
more slots.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.collect.experts import RoutingError, check_routing, experts_hit

Vector = NDArray[np.int64]


def simulate(expert_ids: ArrayLike, step: ArrayLike, num_experts: int, expert_bytes: int) -> list[dict[str, int | float | str]]:
    """Rows {slots_per_layer, budget_bytes, policy, hit_rate, num_accesses} for 1..num_experts slots.

    expert_ids [N, L, k], step [N]; expert_bytes is one expert of one layer. hit_rate is hits over accesses,
    all layers together. RoutingError on arrays that break the rules of `experts`, or expert_bytes < 1.
    """
    if expert_bytes < 1:
        raise RoutingError(f"expert_bytes: must be at least 1 (got {expert_bytes})")
    layers = list(_accesses_by_layer(expert_ids, step, num_experts))
    num_accesses = sum(accesses.size for accesses in layers)
    rows: list[dict[str, int | float | str]] = []
    for policy, keys_of in POLICIES.items():
        hits = sum(_hits_by_slots(accesses, keys_of(accesses), num_experts) for accesses in layers)
        rows += [
            {
                "slots_per_layer": slots,
                "budget_bytes": slots * len(layers) * expert_bytes,
                "policy": policy,
                "hit_rate": int(hits[slots - 1]) / num_accesses,
                "num_accesses": num_accesses,
            }
            for slots in range(1, num_experts + 1)
        ]
    return rows


def cold_share(expert_ids: ArrayLike, step: ArrayLike, num_experts: int) -> float:
    """Share of accesses that are the first to their (layer, expert): misses of any cache without prefetch."""
    layers = list(_accesses_by_layer(expert_ids, step, num_experts))
    return sum(np.unique(accesses).size for accesses in layers) / sum(accesses.size for accesses in layers)


def _accesses_by_layer(expert_ids: ArrayLike, step: ArrayLike, num_experts: int) -> Iterator[Vector]:
    ids = check_routing(expert_ids, step, num_experts)
    hit = experts_hit(ids, step, num_experts)
    for layer in range(ids.shape[1]):
        yield np.nonzero(hit[:, layer])[1]


def _hits_by_slots(accesses: Vector, keys: Vector, num_experts: int) -> Vector:
    """Hits with 1..num_experts slots; keys[t]: the worth that access t leaves on its expert, lowest goes."""
    stack: list[int] = []
    worth = [0] * num_experts
    found_at_depth = [0] * num_experts
    above_all = 1 << 62
    for expert, key in zip(accesses.tolist(), keys.tolist(), strict=True):
        # The accessed expert takes the top; what it displaces sinks, swapping with each entry of lower worth,
        # until the place that the accessed expert left is filled.
        worth[expert] = above_all
        sinking = expert
        for depth, entry in enumerate(stack):
            if entry == expert:
                stack[depth] = sinking
                found_at_depth[depth] += 1
                break
            if worth[entry] < worth[sinking]:
                stack[depth], sinking = sinking, entry
        else:
            stack.append(sinking)
        worth[expert] = key
    return np.cumsum(found_at_depth)


def _lru_keys(accesses: Vector) -> Vector:
    return np.arange(accesses.size)


def _lfu_keys(accesses: Vector) -> Vector:
    order, starts_group = _grouped(accesses)
    place = np.arange(accesses.size)
    count = np.empty_like(place)
    count[order] = place - np.maximum.accumulate(np.where(starts_group, place, 0))
    return count * accesses.size + place


def _belady_keys(accesses: Vector) -> Vector:
    order, starts_group = _grouped(accesses)
    next_use = accesses.size + accesses  # Never again: after every real access; the id only breaks the tie.
    again = ~starts_group[1:]
    next_use[order[:-1][again]] = order[1:][again]
    return -next_use


def _grouped(accesses: Vector) -> tuple[Vector, NDArray[np.bool_]]:
    """Accesses sorted by expert, each expert's in time order, and where each expert's begin."""
    order = np.argsort(accesses, kind="stable")
    starts_group = np.diff(accesses[order], prepend=-1) != 0
    return order, starts_group


POLICIES: dict[str, Callable[[Vector], Vector]] = {"lru": _lru_keys, "lfu": _lfu_keys, "belady": _belady_keys}
