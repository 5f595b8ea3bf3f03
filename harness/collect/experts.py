"""How unevenly a trace used its experts, layer by layer.

In: routing as recorded. Out: one `LayerUsage` a layer, and how often a request keeps its experts from token
to token. Which phase is looked at is the caller's choice: pass the rows of decode, prefill or scoring only.

Shapes: N tokens, L layers, k experts a token, E experts (`num_experts`), S steps (distinct values of `step`).
    expert_ids  unsigned [N, L, k], the k ids of one token and layer distinct
    step        int [N], tokens with the same step went through the model together
    request     int [N], the request a token belongs to

With h[e] the number of times a layer chose expert e, h_1 <= ... <= h_E sorted, T = sum of h = N k,
and p[e] = h[e] / T:
    histogram        h
    max_over_mean    max h / (T / E); 1 when even, E / k when all tokens take the same k
    cv               population standard deviation of h / mean of h; 0 when even
    gini             sum over i = 1..E of (2 i - E - 1) h_i / (E T); 0 when even, 1 - 1 / E for one expert
    entropy_bits     - sum of p log2 p; log2 E when even
    top2_share       (sum of the two largest h) / T; 2 / E when even
    active_per_step  mean over steps of the number of distinct experts hit in the layer. It decides the weight
                     bytes read and does not follow from h. M tokens routed uniformly: E (1 - (1 - k / E)^M).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import HarnessError
from harness.stats.summary import Statistic


class RoutingError(HarnessError):
    """Routing arrays that cannot come from a top-k router: wrong shape, unknown expert, no tokens."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """Expert usage of one layer; formulas in the module docstring."""

    layer: int
    histogram: tuple[int, ...]
    max_over_mean: float
    cv: float
    gini: float
    entropy_bits: float
    active_per_step: float
    top2_share: float


def layer_usage(expert_ids: ArrayLike, step: ArrayLike, num_experts: int) -> list[LayerUsage]:
    """Usage of every layer, in order. RoutingError on arrays that break the rules above or hold no token."""
    ids = check_routing(expert_ids, step, num_experts)
    active = experts_hit(ids, step, num_experts).sum(axis=2).mean(axis=0)
    return [
        _usage(layer, np.bincount(ids[:, layer].ravel(), minlength=num_experts), float(active[layer]))
        for layer in range(ids.shape[1])
    ]


def experts_hit(ids: NDArray[np.integer], step: ArrayLike, num_experts: int) -> NDArray[np.bool_]:
    """bool [S, L, E]: did this step use this expert of this layer; steps in ascending order."""
    steps, row = np.unique(np.asarray(step), return_inverse=True)
    hit = np.zeros((steps.size, ids.shape[1], num_experts), dtype=bool)
    hit[row[:, None, None], np.arange(ids.shape[1])[None, :, None], ids] = True
    return hit


def next_step_repeat_rate(expert_ids: ArrayLike, step: ArrayLike, request: ArrayLike) -> Statistic:
    """Temporal locality: the share of a decode token's experts that the request's next token uses again.

    Mean over pairs of consecutive tokens of one request and over layers of |experts(t) & experts(t + 1)| /
    k, the same layer on both sides. Independent uniform routing gives k / E. n counts pairs. Pass decode
    rows only: two rows of a request in one step have no order, which is a RoutingError.
    """
    ids, steps, requests = check_routing(expert_ids, step, None), np.asarray(step), np.asarray(request)
    if requests.shape != steps.shape:
        raise RoutingError(f"request: must have one value a token (got shape {requests.shape} for {steps.size} tokens)")
    order = np.lexsort((steps, requests))
    ids, steps, requests = ids[order], steps[order], requests[order]
    same_request = requests[1:] == requests[:-1]
    if np.any(same_request & (steps[1:] == steps[:-1])):
        raise RoutingError("step: a request must have one token a step (it has two); pass decode rows only")
    before, after = ids[:-1][same_request], ids[1:][same_request]
    if not len(before):
        return Statistic(None, 0, "no request has two tokens in a row")
    shared = (before[..., :, None] == after[..., None, :]).any(axis=-1)
    return Statistic(float(shared.mean()), len(before))


def check_routing(expert_ids: ArrayLike, step: ArrayLike, num_experts: int | None) -> NDArray[np.integer]:
    """`expert_ids` as an array, or RoutingError saying which rule it breaks; None: any number of experts."""
    ids, steps = np.asarray(expert_ids), np.asarray(step)
    found = f"{ids.dtype} of shape {ids.shape}"
    if ids.ndim != 3 or not np.issubdtype(ids.dtype, np.integer):
        raise RoutingError(f"expert_ids: must be integers [tokens, layers, k] (got {found})")
    if ids.size == 0:
        raise RoutingError(f"expert_ids: must hold a token (got {found}); record experts as null with a reason")
    if steps.shape != ids.shape[:1]:
        raise RoutingError(f"step: must have one value a token (got shape {steps.shape} for {len(ids)} tokens)")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (num_experts is not None and high >= num_experts):
        raise RoutingError(f"expert_ids: must lie in 0..num_experts - 1 (got {low}..{high} of {num_experts} experts)")
    ordered = np.sort(ids, axis=2)
    twice = np.argwhere((ordered[..., 1:] == ordered[..., :-1]).any(axis=2))
    if len(twice):
        token, layer = twice[0].tolist()
        found = ids[token, layer].tolist()
        raise RoutingError(
            f"expert_ids[{token}, {layer}]: the experts of a token must differ (got {found}); check what the router recorded"
        )
    return ids


def _usage(layer: int, histogram: NDArray[np.integer], active_per_step: float) -> LayerUsage:
    num_experts, total = histogram.size, int(histogram.sum())
    ascending = np.sort(histogram)
    ranks = 2 * np.arange(1, num_experts + 1) - num_experts - 1
    shares = histogram[histogram > 0] / total
    return LayerUsage(
        layer=layer,
        histogram=tuple(histogram.tolist()),
        max_over_mean=float(ascending[-1] * num_experts / total),
        cv=float(histogram.std() * num_experts / total),
        gini=float(ranks @ ascending) / (num_experts * total),
        entropy_bits=float(shares @ np.log2(1 / shares)),
        active_per_step=active_per_step,
        top2_share=float(ascending[-2:].sum() / total),
    )
