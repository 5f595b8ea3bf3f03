"""Which requests the next step serves: decided on the host from counts alone, so that steps can be launched ahead.

In: submitted requests. Out: a `PromptStep` (stretches of one or several prompts, up to a number of tokens) or a `DecodeStep`
(one token of every request that is past its prompt). Prompts come first, in order of submission, as soon as a slot is free;
one that is longer than a step goes in stretches. A request that ends by length gives its slot back when its last step is
planned: later work on the slot is behind that step on the device. Knows no tensors.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fp4moe.runtime.gpu.segment import Segment
from fp4moe.runtime.request import Request

STEP_TOKENS = 4096
"""Most prompt tokens of a step: what one launch of the Hopper kernel takes, and about 180 ms of Mixtral-8x7B on an H100."""


@dataclass(slots=True, eq=False)
class Run:
    """A request under way. num_read: prompt tokens planned; num_planned: output tokens planned; emitted: output tokens seen."""

    request: Request
    number: int
    slot: int = -1
    num_read: int = 0
    num_planned: int = 0
    num_emitted: int = 0
    is_over: bool = False

    @property
    def num_left(self) -> int:
        """Prompt tokens still to be read."""
        return len(self.request.prompt_ids) - self.num_read

    @property
    def is_planned(self) -> bool:
        """Whether every output token is planned."""
        return self.num_planned >= self.request.max_new_tokens


@dataclass(frozen=True, slots=True)
class PromptStep:
    """`runs` and `segments` go together; `ends` are the runs whose prompt ends in this step, and their place in `runs`."""

    runs: tuple[Run, ...]
    segments: tuple[Segment, ...]
    ends: tuple[tuple[int, Run], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return sum(segment.count for segment in self.segments)


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One token of each of `runs`."""

    runs: tuple[Run, ...]


@dataclass(slots=True)
class Schedule:
    """The requests of one engine. `step_tokens`: the most prompt tokens of a step."""

    num_slots: int
    step_tokens: int
    waiting: deque[Run] = field(default_factory=deque)
    running: dict[str, Run] = field(default_factory=dict)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.free = list(range(self.num_slots - 1, -1, -1))

    def next_step(self) -> PromptStep | DecodeStep | None:
        """The next step, taken as done from here on; None when nothing can be planned before a step has ended."""
        return self._prompts() or self._decode()

    def drop(self, run: Run) -> None:
        """Take a request out wherever it is; its slot is free for what is planned from now on."""
        if run.slot < 0:  # looked for only where it can be: ten thousand may wait
            self.waiting.remove(run)
        self._give_up_slot(run)
        run.is_over = True

    def _prompts(self) -> PromptStep | None:
        runs, segments, ends = [], [], []
        budget = self.step_tokens
        for run in self._readers():
            count = min(run.num_left, budget)
            segments.append(Segment(run.slot, run.num_read, count))
            runs.append(run)
            run.num_read += count
            budget -= count
            if run.num_left == 0:
                run.num_planned = 1
                ends.append((len(runs) - 1, run))
            if budget == 0:
                break
        for _, run in ends:  # not before: within a step no two stretches may share a slot
            if run.is_planned:
                self._give_up_slot(run)
        return PromptStep(tuple(runs), tuple(segments), tuple(ends)) if runs else None

    def _readers(self):
        """Requests whose prompts are to be read, those that have begun first; takes a slot for each that begins."""
        yield from [run for run in self.running.values() if run.num_left]
        while self.waiting and self.free:
            run = self.waiting.popleft()
            run.slot = self.free.pop()
            self.running[run.request.request_id] = run
            yield run

    def _decode(self) -> DecodeStep | None:
        runs = tuple(run for run in self.running.values() if run.num_left == 0 and not run.is_planned)
        for run in runs:
            run.num_planned += 1
            if run.is_planned:
                self._give_up_slot(run)
        return DecodeStep(runs) if runs else None

    def _give_up_slot(self, run: Run) -> None:
        if self.running.pop(run.request.request_id, None) is not None:
            self.free.append(run.slot)
