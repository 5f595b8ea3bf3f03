"""Microseconds of a callable: CUDA-graph replay on a GPU, a wall clock on a CPU; several contenders in turn.

In: callables that do the same work. Out: raw microseconds, one a repeat. A graph is captured after warm-up, so that
compilation, autotuning and allocation lie outside; one replay runs the callable `rounds` times, enough for the events
around it to be small beside it. `interleave` times contenders in turn, so that a drift of clocks meets all of them, and
draws the order anew for each repeat, so that none always runs after the same other one, whose heat or power it would get.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

WARM_UP_CALLS = 3
MIN_REPLAY_US = 1000.0
MAX_ROUNDS = 8
ORDER = "all in turn, in an order drawn anew for each repeat (seed 0)"
GRAPH, EAGER, WALL = "CUDA-graph replay", "CUDA events, eager calls (it waits for the host)", "CPU, wall clock"


@dataclass(frozen=True, slots=True)
class Timed:
    """Microseconds of one call by repeat, and how they were taken."""

    microseconds: tuple[float, ...]
    method: str

    @property
    def median_us(self) -> float:
        return median(self.microseconds)

    @property
    def iqr_us(self) -> float:
        """Distance of the quartiles (numpy's linear percentiles); 0 for one repeat."""
        low, high = np.percentile(self.microseconds, (25, 75))
        return float(high - low)


class Replay:
    """A callable made ready to be timed. `output` is what the last timed run wrote."""

    def __init__(self, function: Callable[[], object], *, device: torch.device, is_capturable: bool = True, rounds: int = 1):
        self.rounds = rounds
        self._function = function
        self._is_cuda = device.type == "cuda"
        self._graph = None
        self.method = (GRAPH if is_capturable else EAGER) if self._is_cuda else WALL
        self.output = self._prepare(is_capturable) if self._is_cuda else function()

    def _prepare(self, is_capturable: bool) -> object:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                output = self._function()
        stream.synchronize()
        if not is_capturable:
            return output
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(self.rounds):
                output = self._function()
        self._graph = graph
        graph.replay()
        torch.cuda.synchronize()
        return output

    def _run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        for _ in range(self.rounds):
            self.output = self._function()

    def microseconds(self) -> float:
        """One timed run, a call's share."""
        if not self._is_cuda:
            start_ns = time.perf_counter_ns()
            self._run()
            return (time.perf_counter_ns() - start_ns) / 1e3 / self.rounds
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self._run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / self.rounds


def interleave(replays: Sequence[Replay], repeats: int) -> list[Timed]:
    """`repeats` samples of each, taken in turn, see ORDER; one untimed run of each before."""
    for replay in replays:
        replay.microseconds()
    samples: list[list[float]] = [[] for _ in replays]
    turns, rng = list(range(len(replays))), random.Random(0)
    for _ in range(repeats):
        rng.shuffle(turns)
        for turn in turns:
            samples[turn].append(replays[turn].microseconds())
    return [Timed(tuple(own), replay.method) for own, replay in zip(samples, replays, strict=True)]


def rounds_for(expected_us: float) -> int:
    """Calls a replay, so that it takes about a millisecond."""
    return max(1, min(MAX_ROUNDS, round(MIN_REPLAY_US / max(expected_us, 1.0))))
