"""Measure two sides in turn until the answer is clear: the repeats of an A/B comparison.

In: two sides that planned the same cells. Out: nothing; each side's run folder holds the records.

Repeat k of both sides is measured one right after the other, and the two take turns in who comes first, so that load which
comes and goes meets both alike and a drift favours neither. Repeats grow from `min_repeats` to at most
`max_repeats`. A cell is settled when each of its primary metrics has a verdict and an interval narrower than half its
minimum effect, or when one is worse with its whole interval past the minimum effect. Both are states that chance does not
reach, so looking often does not raise false alarms (tests/studies/gate_study.py counts them).

Workers are started afresh every REPEATS_A_START repeats: where a process happens to have its memory changes its speed, and
so does being started first, by a few percent; repeats of one process all share that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.compare.judge import Judgement
from harness.errors import NothingMeasuredError
from harness.gate.decide import judge_cell
from harness.gate.sides import Side
from harness.record import read_run
from harness.report.cells import measured_cells
from harness.report.data import LoadedRun
from harness.scenario.gates import GateSpec

LOOKS = (5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 22, 24, 27, 30, 34, 38, 42, 46, 50, 55, 60)
"""Repeats a side after which the answer is looked at."""
REPEATS_A_START = 5
MAX_FAILURES = 3
MEMORY_HEADROOM = 0.95

Tell = Callable[[str], None]


@dataclass(slots=True)
class CellState:
    """How far one cell of both sides is."""

    cell_id: str
    is_quality: bool
    num_failures: int = 0
    is_settled: bool = False


def measure_in_turn(a: Side, b: Side, cells_a: list[dict], cells_b: list[dict], spec: GateSpec, tell: Tell) -> None:
    """Measure every cell that both sides plan. Raises NothingMeasuredError when they share none."""
    shared = [row for row in cells_b if row["cell_id"] in {other["cell_id"] for other in cells_a}]
    if not shared:
        raise NothingMeasuredError(f"{a.tree.label} and {b.tree.label} plan no cell in common: nothing was measured")
    memory = {row["cell_id"]: row["memory_bytes"] for row in cells_a}
    for group in dict.fromkeys(tuple(row["group"]) for row in shared):
        rows = [row for row in shared if tuple(row["group"]) == group]
        fits = all(row["memory_bytes"] + memory[row["cell_id"]] <= MEMORY_HEADROOM * row["free_bytes"] for row in rows)
        _group(a, b, rows, spec, tell, keep="both" if fits else "one")
    a.finish()
    b.finish()


def _group(a: Side, b: Side, rows: list[dict], spec: GateSpec, tell: Tell, *, keep: str) -> None:
    """keep: "both" workers stay loaded, or "one" at a time where two do not fit."""
    states = [CellState(row["cell_id"], row["is_quality"]) for row in rows]
    num_repeats = spec.max_repeats if spec.primary else 1
    for repeat in range(num_repeats):
        if repeat and repeat % REPEATS_A_START == 0:
            a.release()
            b.release()
        for state in states:
            if not state.is_settled:
                _pair(a, b, state, repeat, keep=keep)
                state.is_settled = state.is_quality or state.num_failures >= MAX_FAILURES
        done = repeat + 1
        if done >= spec.min_repeats and (done in LOOKS or done == num_repeats):
            _look(a, b, states, spec, tell, done)
        if all(state.is_settled for state in states):
            break
    a.release()
    b.release()


def _pair(a: Side, b: Side, state: CellState, repeat: int, *, keep: str) -> None:
    for side in (a, b) if is_baseline_first(repeat) else (b, a):
        record = side.measure(state.cell_id, repeat)
        state.num_failures += record["status"] != "ok"
        if keep == "one":
            side.release()


def is_baseline_first(repeat: int) -> bool:
    """Every other repeat, and the other way round after each fresh start: who is started first takes turns too."""
    return (repeat % REPEATS_A_START + repeat // REPEATS_A_START) % 2 == 0


def _look(a: Side, b: Side, states: list[CellState], spec: GateSpec, tell: Tell, done: int) -> None:
    old, new = (_cells_by_id(_loaded(side)) for side in (a, b))
    for state in (state for state in states if not state.is_settled):
        if state.cell_id not in old or state.cell_id not in new:
            continue
        judged = judge_cell(old[state.cell_id], new[state.cell_id], spec)
        state.is_settled = is_settled(judged)
        widths = ", ".join(
            f"{j.metric} {j.slowdown - 1:+.1%} (interval {j.relative_width:.1%})" for j in judged if j.relative_width
        )
        tell(f"{state.cell_id}: {done} repeats a side, {widths}{', settled' if state.is_settled else ''}")


def is_settled(judged: list[Judgement]) -> bool:
    """Whether more repeats would not change what a gate says."""
    if any(j.verdict == "worse" and j.is_beyond for j in judged):
        return True
    return all(j.verdict == "not judged" or (j.is_narrow and j.verdict != "inconclusive") for j in judged)


def _loaded(side: Side) -> LoadedRun:
    run = read_run(Path(side.folder))
    return LoadedRun(run.folder, run.info, tuple(run.records))


def _cells_by_id(run: LoadedRun) -> dict:
    return {cell.cell_id: cell for cell in measured_cells([run])}
