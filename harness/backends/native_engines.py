"""The engines of one loaded model: one for each size that cells ask for, kept while the device has room.

In: slots and context. Out: a `ReadyEngine`, idle. Repeats of several workloads take turns, and building an engine captures its
graphs anew; so engines stay until a new one needs their memory, and then all the others go. On a CPU the last one is kept.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any

import torch

from fp4moe.runtime import MixtralModel, make_engine
from fp4moe.runtime.gpu.cache import nbytes_of

SPARE_BYTES = 6_000_000_000
"""Free memory beside a new engine's cache, for its graphs and the largest prompt step: 4 GB were the most that one took."""


@dataclass(slots=True)
class ReadyEngine:
    """An engine, what is imposed on it (routing, seed), and the activation peak of each workload it was warmed up for."""

    engine: Any
    imposed: tuple[str, int] | None = None
    peaks: dict[str, int] = field(default_factory=dict)


class NativeEngines:
    """Engines by (slots, context)."""

    def __init__(self, model: MixtralModel) -> None:
        self._model = model
        self._ready: dict[tuple[int, int], ReadyEngine] = {}

    def get(self, slots: int, context: int) -> ReadyEngine:
        """The engine of exactly this size."""
        size = slots, context
        if size not in self._ready:
            if not self._has_room(size):
                self.close()
            self._ready[size] = ReadyEngine(make_engine(self._model, max_slots=slots, max_context=context))
        return self._ready[size]

    def close(self) -> None:
        """Give back what the engines hold of the device."""
        self._ready.clear()
        if self._model.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _has_room(self, size: tuple[int, int]) -> bool:
        if self._model.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self._model.device)
        return free > nbytes_of(self._model.config, *size) + SPARE_BYTES
