"""The engine of one loaded model: the size that the last cell asked for.

In: slots and context. Out: a `ReadyEngine`, idle. Repeats of several workloads take turns, and another size is another engine,
so that what a cell holds of the device is its own: an engine that was kept beside it would stand in its memory figures.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any

import torch

from fp4moe.runtime import MixtralModel, make_engine


@dataclass(slots=True)
class ReadyEngine:
    """An engine, what is imposed on it (routing, seed), and the activation peak of each workload it was warmed up for."""

    engine: Any
    imposed: tuple[str, int] | None = None
    peaks: dict[str, int] = field(default_factory=dict)


class NativeEngines:
    """One engine at a time, by (slots, context)."""

    def __init__(self, model: MixtralModel) -> None:
        self._model = model
        self._size: tuple[int, int] | None = None
        self._ready: ReadyEngine | None = None

    def get(self, slots: int, context: int) -> ReadyEngine:
        """The engine of exactly this size; one of another size is given up first."""
        if self._ready is None or self._size != (slots, context):
            self.close()
            self._ready = ReadyEngine(make_engine(self._model, max_slots=slots, max_context=context))
            self._size = slots, context
        return self._ready

    def close(self) -> None:
        """Give back what the engine holds of the device."""
        self._ready = self._size = None
        if self._model.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
