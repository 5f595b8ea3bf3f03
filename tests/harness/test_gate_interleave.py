"""In which order two sides are measured, when they stop, when workers start afresh: with sides that compute their figures."""

from pathlib import Path

import numpy as np
import pytest

from gate_runs import HELDOUT, record, write_run
from harness.errors import NothingMeasuredError
from harness.gate.interleave import LOOKS, MAX_FAILURES, REPEATS_A_START, measure_in_turn
from harness.gate.sides import Tree
from harness.scenario.gates import GateSpec

SPEC = GateSpec.model_validate({"primary": [{"metric": "median_itl_ms", "min_effect_pct": 3}], "exact": []})


class FakeSide:
    """Answers like Side; `itl_ms(repeat)` gives the figure, None a failed repeat."""

    def __init__(self, name: str, folder: Path, partner: str, log: list, itl_ms):
        self.tree, self.folder, self.log, self.itl_ms = Tree(folder, name), folder, log, itl_ms
        self.rows: list[dict] = []
        write_run(folder, [], run_id=name, interleaved={"with": partner})

    def measure(self, cell_id: str, repeat: int) -> dict:
        self.log.append((self.tree.label, repeat))
        value = self.itl_ms(repeat)
        workload = HELDOUT if "heldout" in cell_id else {**record({})["workload"]}
        row = record({"median_itl_ms": value}, repeat=repeat, status="ok" if value else "failed", workload=workload)
        self.rows.append(row)
        write_run(self.folder, self.rows, run_id=self.tree.label, interleaved={"with": "a" if self.tree.label == "b" else "b"})
        return row

    def release(self) -> None:
        self.log.append((self.tree.label, "release"))

    def finish(self) -> None:
        self.log.append((self.tree.label, "finish"))


def run(tmp_path, a, b, *, memory=1, cells=("single",), spec=SPEC):
    log: list = []
    sides = FakeSide("a", tmp_path / "a", "b", log, a), FakeSide("b", tmp_path / "b", "a", log, b)
    rows = [
        {
            "cell_id": record({}, workload=HELDOUT if name == "heldout" else record({})["workload"])["cell_id"],
            "group": ["pocket-mixtral", "native", "nvfp4"],
            "is_quality": name == "heldout",
            "memory_bytes": memory,
            "free_bytes": 10,
        }
        for name in cells
    ]
    measure_in_turn(*sides, rows, rows, spec, lambda line: None)
    return log


def noisy(level: float, seed: int, spread: float):
    values = level * np.exp(spread * np.random.default_rng(seed).standard_normal(LOOKS[-1]))
    return lambda repeat: float(values[repeat])


def num_repeats(log) -> int:
    return 1 + max(what for _, what in log if isinstance(what, int))


def test_neighbours_swap_their_order_at_each_repeat(tmp_path):
    log = run(tmp_path, noisy(5, 1, 0.001), noisy(5, 2, 0.001))
    assert log[:6] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_a_quiet_machine_is_done_after_the_fewest_repeats(tmp_path):
    assert num_repeats(run(tmp_path, noisy(5, 1, 0.001), noisy(5, 2, 0.001))) == 5


def test_a_noisy_machine_goes_on_to_the_most(tmp_path):
    assert num_repeats(run(tmp_path, noisy(5, 1, 0.2), noisy(5, 2, 0.2))) == LOOKS[-1]


def test_a_large_slowdown_ends_it_early_even_with_noise(tmp_path):
    assert num_repeats(run(tmp_path, noisy(5, 1, 0.05), noisy(10, 2, 0.05))) < 15


def test_workers_start_afresh(tmp_path):
    log = run(tmp_path, noisy(5, 1, 0.2), noisy(5, 2, 0.2))
    starts = [next(side for side, what in log if what == repeat) for repeat in range(0, LOOKS[-1], REPEATS_A_START)]
    assert starts == ["a", "b"] * 6  # who is started first takes turns
    place = log.index(("a", "release"))
    assert log[place - 1][1] == REPEATS_A_START - 1 and log.count(("a", "release")) == 12  # every five, and at the end


def test_workers_that_do_not_fit_together_take_turns(tmp_path):
    log = run(tmp_path, noisy(5, 1, 0.001), noisy(5, 2, 0.001), memory=6)
    assert log[:4] == [("a", 0), ("a", "release"), ("b", 0), ("b", "release")]


def test_quality_is_measured_once(tmp_path):
    log = run(tmp_path, noisy(5, 1, 0.001), noisy(5, 2, 0.001), cells=("heldout",))
    assert [what for _, what in log if isinstance(what, int)] == [0, 0]


def test_a_side_that_keeps_failing_is_given_up(tmp_path):
    log = run(tmp_path, noisy(5, 1, 0.1), lambda repeat: None)
    assert num_repeats(log) == MAX_FAILURES


def test_sides_without_a_cell_in_common(tmp_path):
    sides = [FakeSide(name, tmp_path / name, "", [], noisy(5, 1, 0.1)) for name in "ab"]
    row = {"group": [1], "is_quality": False, "memory_bytes": 1, "free_bytes": 10}
    with pytest.raises(NothingMeasuredError, match="no cell in common") as nothing:
        measure_in_turn(*sides, [row | {"cell_id": "x"}], [row | {"cell_id": "y"}], SPEC, lambda line: None)
    assert nothing.value.exit_code == 3
