"""A decode step as one launch: CUDA graphs by number of lanes, one memory pool for all.

In: a body that launches a step on static buffers. Out: the buffers it leaves its results in. Up to EXACT requests every number
has its own graph, for a lane without a request would hit experts that nobody asked for; beyond, numbers are rounded up to
multiples of STEP (then nearly every expert is hit anyway). Running the body to warm up changes buffers; the caller says which
may be changed. A graph holds addresses, not tensors: what the body refers to is kept with it, or the allocator would hand its
memory to somebody else and the replay would read what that wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import torch

from fp4moe import ranges

EXACT = 32
STEP = 16
Result = TypeVar("Result")


def lanes_for(num_requests: int, max_requests: int) -> int:
    """How many lanes a step of so many requests has."""
    if num_requests <= EXACT:
        return num_requests
    return min(-(-num_requests // STEP) * STEP, max_requests)


def all_lanes(max_requests: int) -> list[int]:
    """Every number of lanes that up to `max_requests` requests can take, most first, so that the pool is made once."""
    return sorted({lanes_for(requests, max_requests) for requests in range(1, max_requests + 1)}, reverse=True)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Where graphs are captured: one for all engines, since cuBLAS keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream(device)


@dataclass(frozen=True, slots=True)
class _Captured(Generic[Result]):
    """`body` is never called again; it keeps alive what the graph reads."""

    graph: torch.cuda.CUDAGraph
    body: Callable[[], Result]
    result: Result


class StepGraphs(Generic[Result]):
    """Captured steps by key; they never run at the same time."""

    def __init__(self) -> None:
        self._captured: dict[Hashable, _Captured[Result]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._side = _side_stream(torch.cuda.current_device())

    def __contains__(self, key: Hashable) -> bool:
        return key in self._captured

    def __len__(self) -> int:
        return len(self._captured)

    def capture(self, key: Hashable, body: Callable[[], Result]) -> None:
        """Run the body once, which compiles and warms up, then capture it.

        Not by `torch.cuda.graph`: that gives the allocator's free memory back to the driver before each capture, and taking it
        again costs .3 s a graph where segments are expandable.
        """
        with ranges.range("graph capture"):
            graph = torch.cuda.CUDAGraph()
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                body()
                self._side.synchronize()
                graph.capture_begin(pool=self._pool)
                try:
                    result = body()
                finally:
                    graph.capture_end()
            torch.cuda.current_stream().wait_stream(self._side)
            self._captured[key] = _Captured(graph, body, result)

    def replay(self, key: Hashable) -> Result:
        """Launch what was captured under `key`."""
        captured = self._captured[key]
        with ranges.range("graph replay"):
            captured.graph.replay()
        return captured.result

    def clear(self) -> None:
        """Forget every graph, because what they captured no longer holds. The next ones get a pool of their own.

        A pool that no graph uses is given back to the allocator and cannot be captured into again.
        """
        self._captured.clear()
        self._pool = torch.cuda.graph_pool_handle()
