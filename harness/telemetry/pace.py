"""Whether the engine's steps slowed as the SM clock fell: like steps early and late in a run, and the clock while they ran.

In: steps (collect/latency.py's `StepTimes`), readings of one busy GPU on the same clock. Out: a `Pace` for each kind of step
that occurs often enough: decode steps of the most common number of requests, prompt steps of the most common number of tokens.
A `Pace` cannot tell what slowed a step: contexts that grow do, and count as if the clock had.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness.collect.latency import StepTimes
from harness.telemetry.sample import Sample

MIN_STEPS = {"decode": 24, "prefill": 6}
"""Like steps below which thirds say nothing; a run has few prompt steps, each long."""
MIN_READINGS = 2
"""Of the clock in a third; with fewer the fall over the whole run stands for it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`change`: of the median step time, last third of `num_steps` against the first, 0.02 for 2 % slower.

    `own_fall`: of the median clock between the readings taken in the same two thirds; None where there are too few.
    """

    kind: str
    change: float
    own_fall: float | None
    num_steps: int


def paces(steps: Sequence[StepTimes], busy: Sequence[Sample]) -> list[Pace]:
    """Decode first; empty where no kind of step occurs often enough."""
    found = []
    for phase, least in MIN_STEPS.items():
        of_phase = [step for step in steps if step.phase == phase]
        sizes = Counter(_size(step) for step in of_phase)
        if sizes and sizes.most_common(1)[0][1] >= least:
            size = sizes.most_common(1)[0][0]
            found.append(_pace(phase, [step for step in of_phase if _size(step) == size], busy))
    return found


def read_steps(folder: Path, samples: dict[str, str]) -> list[StepTimes]:
    """Of a record's samples; empty for a backend that tells no steps."""
    import pyarrow.parquet as parquet

    if "steps" not in samples:
        return []
    columns = ["index", "phase", "start_ns", "end_ns", "num_tokens", "num_requests"]
    return [StepTimes(**row) for row in parquet.read_table(folder / samples["steps"], columns=columns).to_pylist()]


def _size(step: StepTimes) -> int:
    return step.num_requests if step.phase == "decode" else step.num_tokens


def _pace(phase: str, steps: list[StepTimes], busy: Sequence[Sample]) -> Pace:
    third = len(steps) // 3
    first, last = steps[:third], steps[-third:]
    change = median(step.seconds for step in last) / median(step.seconds for step in first) - 1
    return Pace("decode steps" if phase == "decode" else "prompt steps", change, _fall(first, last, busy), len(steps))


def _fall(first: list[StepTimes], last: list[StepTimes], busy: Sequence[Sample]) -> float | None:
    before, after = ([s.sm_clock_mhz for s in busy if s.sm_clock_mhz and _is_in(s, part)] for part in (first, last))
    return None if min(len(before), len(after)) < MIN_READINGS else 1 - median(after) / median(before)


def _is_in(sample: Sample, part: list[StepTimes]) -> bool:
    return part[0].start_ns <= sample.time_ns <= part[-1].end_ns
