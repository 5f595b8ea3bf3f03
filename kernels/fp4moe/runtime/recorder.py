"""Which experts every token took, kept as ids: experts hit a step cannot be had from sums.

In: one `begin_step` a step, one `record` a layer. Out: `arrays()`. Cheap enough to leave on (about 10 us a
step of five layers, under 1 % of it): a layer keeps a reference to its ids, a finished step becomes one uint8
array, and nothing is waited for in between. A step that did not reach the last layer is left out.

Shapes: N recorded tokens, L layers, k experts a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PHASES = ("prefill", "decode", "score")


class RoutingRecorder:
    """Collects the routing of one model of `num_layers` layers."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._layers: list[Tensor] = []
        self._current: tuple[int, int, Sequence[int]] = (0, 0, ())
        self._ids: list[np.ndarray] = []
        self._steps: list[tuple[int, int, np.ndarray]] = []
        self.num_steps = 0

    def begin_step(self, phase: str, num_tokens: int, step: int, *, requests: Sequence[int] | None = None) -> None:
        """`requests`: the number of the request each token belongs to; -1 for all when not given."""
        self._end_step()
        self._current = (step, PHASES.index(phase), [-1] * num_tokens if requests is None else requests)
        self.num_steps += 1

    def record(self, layer: int, ids_TK: Tensor) -> None:
        """The experts of the step's tokens in one layer, layers in order; do not write to `ids_TK` later."""
        assert layer == len(self._layers), "layers are recorded in order, once a step"
        self._layers.append(ids_TK)

    def add_step(self, phase: str, step: int, ids_NLK: np.ndarray, *, requests: Sequence[int]) -> None:
        """A whole step whose ids are on the host already."""
        self._end_step()
        self._ids.append(np.ascontiguousarray(ids_NLK, np.uint8))
        self._steps.append((step, PHASES.index(phase), np.asarray(requests, np.int32)))
        self.num_steps += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """expert_ids uint8 [N, L, k]; step int32 [N]; phase uint8 [N], indexes PHASES; request int32 [N]."""
        self._end_step()
        counts = [len(ids) for ids in self._ids]
        top_k = self._ids[0].shape[2] if self._ids else 0
        empty = [np.empty((0, self._num_layers, top_k), np.uint8)]
        requests = [requests for _, _, requests in self._steps]
        return {
            "expert_ids": np.concatenate(empty + self._ids),
            "step": np.repeat(np.array([step for step, _, _ in self._steps], np.int32), counts),
            "phase": np.repeat(np.array([phase for _, phase, _ in self._steps], np.uint8), counts),
            "request": np.concatenate([np.empty(0, np.int32), *requests]),
        }

    def histogram(self, num_experts: int) -> np.ndarray:
        """int64 [L, E]: slots each expert of each layer received, over everything recorded."""
        ids = self.arrays()["expert_ids"]
        counts = [np.bincount(ids[:, layer].ravel(), minlength=num_experts) for layer in range(self._num_layers)]
        return np.stack(counts)

    def _end_step(self) -> None:
        layers, self._layers = self._layers, []
        if len(layers) == self._num_layers:
            step, phase, requests = self._current
            self._ids.append(torch.stack(layers, dim=1).to(torch.uint8).cpu().numpy())
            self._steps.append((step, phase, np.asarray(requests, np.int32)))
