"""What the host reads of a step without making the device wait: copies into pinned memory, and an event behind them.

In: device tensors of a step that was launched. Out: NumPy arrays, once the event has passed. A decode step leaves all that the
host reads in one tensor: one copy brings it, into memory that the engine takes once and uses again. A prompt's results have a
size of their own and get fresh memory. On a CPU the copies are made at once.

Shapes: L layers, B lanes of a decode step, K experts a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOKEN_BYTES = 4
ALIGNMENT = 16
"""Expert ids begin at a multiple of it, so that Triton compiles the kernels that write them once for every number of lanes."""


class Readback:
    """Copies of tensors under way to the host, in memory of their own."""

    __slots__ = ("_event", "_host")

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._host: dict[str, Tensor] = {}
        is_cuda = any(tensor.is_cuda for tensor in tensors.values())
        for name, tensor in tensors.items():
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_cuda)
            host.copy_(tensor, non_blocking=is_cuda)
            self._host[name] = host
        self._event = torch.cuda.Event() if is_cuda else None
        if self._event is not None:
            self._event.record()

    def wait(self) -> dict[str, np.ndarray]:
        """The arrays; waits for the device."""
        if self._event is not None:
            self._event.synchronize()
        return {name: tensor.numpy() for name, tensor in self._host.items()}


@dataclass(frozen=True, slots=True)
class DecodeResults:
    """What a decode step leaves on the device: `tokens_B` int32 and `recorded_LBK` uint8 are views of `packed`, uint8."""

    packed: Tensor
    tokens_B: Tensor
    recorded_LBK: Tensor

    @classmethod
    def of(cls, num_layers: int, lanes: int, top_k: int, device: torch.device) -> DecodeResults:
        """Not filled in."""
        ids_at = -(-TOKEN_BYTES * lanes // ALIGNMENT) * ALIGNMENT
        packed = torch.empty(ids_at + num_layers * lanes * top_k, dtype=torch.uint8, device=device)
        tokens_B = packed[: TOKEN_BYTES * lanes].view(torch.int32)
        return cls(packed, tokens_B, packed[ids_at:].view(num_layers, lanes, top_k))

    def arrays(self, packed: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """Of the first `count` lanes, in a copy of `packed` on the host: tokens [count], experts [L, count, K]."""
        _, lanes, _ = shape = self.recorded_LBK.shape
        ids_at = self.packed.numel() - self.recorded_LBK.numel()
        tokens = packed[: TOKEN_BYTES * lanes].view(np.int32)
        return {"tokens": tokens[:count], "recorded": packed[ids_at:].reshape(shape)[:, :count]}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the results of one step arrive; `array` is `tensor` as NumPy sees it. No event on a CPU."""

    tensor: Tensor
    array: np.ndarray
    event: torch.cuda.Event | None


class HostMemory:
    """Places by their size: as many of each as there were steps of that size under way at once."""

    def __init__(self) -> None:
        self._free: dict[int, list[_Place]] = {}

    def take(self, packed: Tensor) -> _Place:
        """One for this tensor that nobody else has."""
        free = self._free.get(packed.numel())
        if free:
            return free.pop()
        tensor = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=packed.is_cuda)
        return _Place(tensor, tensor.numpy(), torch.cuda.Event() if packed.is_cuda else None)

    def give_back(self, place: _Place) -> None:
        """What was in it has been read."""
        self._free.setdefault(len(place.array), []).append(place)


class DecodeReadback:
    """A decode step's results under way to the host; `count` of its lanes are requests."""

    __slots__ = ("_count", "_memory", "_place", "_results")

    def __init__(self, results: DecodeResults, count: int, memory: HostMemory) -> None:
        self._results, self._count, self._memory = results, count, memory
        self._place = place = memory.take(results.packed)
        place.tensor.copy_(results.packed, non_blocking=place.event is not None)
        if place.event is not None:
            place.event.record()

    def wait(self) -> dict[str, np.ndarray]:
        """The arrays; waits for the device. Once only: the place they arrived in goes to a later step, so they are copies."""
        if self._place.event is not None:
            self._place.event.synchronize()
        packed = self._place.array.copy()
        self._memory.give_back(self._place)
        return self._results.arrays(packed, self._count)
