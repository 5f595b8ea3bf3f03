"""The most memory that a piece of work holds at once, beyond what was there before.

In: a function. Out: peak live bytes of tensors allocated while it runs. On the CPU every operator's outputs
are followed from birth to release (the scratch space inside an operator is not seen); on CUDA the caching
allocator's own statistics are read, which see all of it. Slows the function down: never time and measure
memory in the same call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_step_bytes(fn: Callable[[], Any], *, device: str = "cpu") -> int:
    """Run `fn` once; bytes at the highest point. `device` is where its tensors are."""
    if torch.device(device).type == "cuda":
        return _peak_cuda_bytes(fn, device)
    with _LiveStorages() as live:
        result = fn()
    del result
    return live.peak_bytes


def _peak_cuda_bytes(fn: Callable[[], Any], device: str) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before_bytes = torch.cuda.memory_allocated(device)
    fn()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before_bytes


class _LiveStorages(TorchDispatchMode):
    """Counts storages that first appear as an operator's output; views share their base's."""

    def __init__(self) -> None:
        super().__init__()
        self._followed: dict[int, weakref.ref] = {}
        self._live_bytes = 0
        self.peak_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._follow((args, kwargs), is_new=False)  # what was there before costs nothing
        with self:
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        self._follow(result, is_new=True)
        return result

    def _follow(self, tree: Any, *, is_new: bool) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._followed:
                self._add(leaf.untyped_storage(), leaf.untyped_storage().nbytes() if is_new else 0)

    def _add(self, storage: torch.UntypedStorage, num_bytes: int) -> None:
        key = storage._cdata

        def release(_: weakref.ref) -> None:
            del self._followed[key]
            self._live_bytes -= num_bytes

        self._followed[key] = weakref.ref(storage, release)
        self._live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
