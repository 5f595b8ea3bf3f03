"""Routing that a workload imposes on random weights: expert ids for the engine's tokens, drawn or replayed.

In: a workload with `routing`, a loaded backend, a seed. Out: the engine sends every token to the next row of a table of ids, on
the device, so that speed is measured under the skew that was asked for. Only the GPU engine imposes, and only on random
weights; the plan drops the cells where it cannot be (harness/plan.py).
"""

from __future__ import annotations

import numpy as np
import torch

from harness.backends.native_engines import ReadyEngine
from harness.kernel_bench.routing import draw, parse_routing
from harness.scenario.schema import WorkloadSpec

TABLE_TOKENS = 4096
"""Tokens after which the table repeats: every layer has its own draw, so 1 MB for Mixtral-8x7B."""


def impose(ready: ReadyEngine, config, spec: WorkloadSpec, seed: int) -> None:
    """Set or end the imposed routing of an engine."""
    wanted = None if spec.routing is None else (spec.routing, seed)
    if wanted == ready.imposed:
        return
    ready.engine.impose_routing(None if wanted is None else torch.from_numpy(imposed_table(config, *wanted)))
    ready.imposed = wanted


def imposed_table(config, routing: str, seed: int) -> np.ndarray:
    """int32 [R, L, K]: the experts of R tokens in every layer."""
    parsed = parse_routing(routing)
    layers = [
        draw(parsed, TABLE_TOKENS, config.num_experts, config.top_k, seed=seed, copy=layer).ids_TK
        for layer in range(config.num_layers)
    ]
    return np.stack(layers, axis=1).astype(np.int32)
