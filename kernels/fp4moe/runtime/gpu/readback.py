"""What the host reads of a step without making the device wait: copies into pinned memory, and an event behind them.

In: device tensors of a finished launch. Out: NumPy arrays, once the event has passed. On a CPU the copies are made at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Readback:
    """Copies of tensors under way to the host."""

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
