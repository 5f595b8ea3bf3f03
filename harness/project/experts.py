"""How many experts a batch hits: uniform routing, or a recorded histogram.

In: tokens, number of experts, experts a token, optionally counts per expert. Out: the expected number hit.

    uniform:   E * (1 - (1 - K / E) ** T)         8 (1 - .75^T) for Mixtral
    recorded:  sum over experts of 1 - (1 - p_e) ** T,   p_e = min(1, K * count_e / sum of counts)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.project.curves import data_file


@dataclass(frozen=True, slots=True)
class Routing:
    """E experts, K a token; `layers` has counts per expert for each recorded layer, and is empty for uniform routing."""

    num_experts: int = 8
    top_k: int = 2
    layers: tuple[tuple[float, ...], ...] = ()
    source: str = "uniform routing"

    def experts_hit(self, tokens: float) -> float:
        """Expected number of experts with at least one token; the mean over the recorded layers."""
        missed = (1.0 - self._chances()) ** max(tokens, 0.0)
        return float(np.mean(np.sum(1.0 - missed, axis=1)))

    def _chances(self) -> np.ndarray:
        """[layers, E] probability of an expert to be among a token's K; a share beyond 1 / K is cut there."""
        if not self.layers:
            return np.full((1, self.num_experts), self.top_k / self.num_experts)
        counts = np.asarray(self.layers, dtype=float)
        return np.minimum(1.0, self.top_k * counts / counts.sum(axis=1, keepdims=True))


def recorded_routing(layers: Sequence[Sequence[float]], top_k: int, source: str) -> Routing:
    """A routing from counts per expert, a row a layer."""
    rows = tuple(tuple(float(count) for count in row) for row in layers)
    return Routing(len(rows[0]), top_k, rows, source)


def parse_routing(text: str, *, num_experts: int, top_k: int) -> Routing:
    """`uniform`, `pocket` (the shipped model's router, as recorded), or `recorded:FILE`; UsageError listing them."""
    name, _, argument = text.partition(":")
    if text == "uniform":
        return Routing(num_experts, top_k)
    if text == "pocket":
        rows = [row for row in data_file("calibration.json")["quality"] if row.get("layer_counts")]
        found = recorded_routing(rows[0]["layer_counts"], 2, f"router of pocket-mixtral ({rows[0]['source']})")
    elif name == "recorded" and argument:
        from harness.kernel_bench.recorded import read_counts

        found = recorded_routing([read_counts(argument)], top_k, f"recorded routing ({Path(argument).name})")
    else:
        raise UsageError(f"--routing: must be one of uniform, pocket, recorded:FILE (got {text!r})")
    if found.num_experts != num_experts:
        raise UsageError(f"--routing {text}: must have a count for each of {num_experts} experts (got {found.num_experts})")
    return found
