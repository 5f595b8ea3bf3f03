"""50 SIGKILLs at seeded random moments, Ctrl-C and SIGTERM: nothing finished is lost, and `--resume` completes the run.

35 of the kills hit a worker, 15 the harness itself. A killed worker costs the one (cell, repeat) that it was measuring.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from commands import ROOT, environment
from harness.record import read_run
from running import FINISHED, Running, assert_nothing_lost, is_gone, left_in, records_of, small_scenario

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]
WORKER_KILLS, HARNESS_KILLS = 35, 15
NUM_RECORDS = 22  # 2 precisions x (1 heldout + 2 workloads x 5 repeats)
ORPHAN_LIMIT_S = 5.0
LATEST_S = 6.0  # a worker of this scenario lives for about 3 s of start and loading and 4 s of measuring


def assert_complete(folder: Path) -> None:
    """Every cell and repeat of the plan is measured, and nothing but the run is in its folder."""
    run = read_run(folder)
    assert len(run.records) == NUM_RECORDS and len(run.finished()) == NUM_RECORDS
    assert {path.name for path in folder.iterdir()} == FINISHED
    assert not list(folder.rglob("*.part"))
    comparisons = [record["metrics"].get("mean_kl_nats") for record in run.records if "nvfp4" in record["cell_id"]]
    assert any(metric and metric["value"] is not None for metric in comparisons)


def kill_workers_of_one_run(run: Running, rng: random.Random, wanted: int) -> int:
    """Kill up to `wanted` workers, each at a random age; gives the number killed while they lived."""
    seen: set[int] = set()
    killed = 0
    while killed < wanted:
        worker = run.wait_for_worker(seen)
        if worker is None:
            break
        seen.add(worker.pid)
        is_preparing = len(seen) == 1
        if is_preparing and rng.random() < 0.8:
            continue  # that worker only answers what a plan needs; most kills should hit measuring
        if rng.random() < 0.6:  # surely while it measures, however fast this machine starts and loads
            _wait(run, worker, LATEST_S * 5, until_records=len(records_of(run.folder)) + 1)
            _wait(run, worker, rng.uniform(0.0, 0.5))
        else:
            _wait(run, worker, rng.uniform(0.0, LATEST_S))
        before = run.left()
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
        killed += 1
        assert is_gone(worker, ORPHAN_LIMIT_S)
        assert_nothing_lost(before, run.folder)
    return killed


def _wait(run: Running, worker: psutil.Process, delay_s: float, until_records: int | None = None) -> None:
    deadline = time.monotonic() + delay_s
    while time.monotonic() < deadline and not run.is_over and not is_gone(worker, 0.02):
        if until_records is not None and len(records_of(run.folder)) >= until_records:
            return
        time.sleep(0.01)


def test_killed_workers_cost_one_repeat_each_and_the_run_goes_on(tmp_path):
    scenario_file, rng = small_scenario(tmp_path), random.Random(1)
    kills, attempt, kinds = 0, 0, Counter()
    while kills < WORKER_KILLS:
        folder = tmp_path / f"run{attempt}"
        before = left_in(folder)
        known = len(records_of(folder))
        run = Running(scenario_file, folder)
        killed = kill_workers_of_one_run(run, rng, min(6, WORKER_KILLS - kills))
        kills += killed
        code = run.end()
        assert_nothing_lost(before, folder)
        new = records_of(folder)[known:]
        failed = [record for record in new if record["status"] == "failed"]
        kinds.update(record["error"]["kind"] for record in failed)
        assert len([r for r in failed if r["error"]["kind"] == "killed"]) <= killed
        if (folder / "run.json").exists() and new:
            last = {(record["cell_id"], record["repeat"]) for record in records_of(folder)}
            assert len(last) == NUM_RECORDS, "the run went on to its end"
            assert code == (5 if read_run(folder).finished() != last else 0)
            assert all("SIGKILL" in r["error"]["message"] for r in failed if r["error"]["kind"] == "killed")
            assert all(r["metrics"] == {} and r["verdict"]["state"] == "INVALID" for r in failed)
        else:
            assert code == 5 and "SIGKILL" in run.stderr  # killed while it prepared: nothing was written
        attempt += code == 0
    assert set(kinds) <= {"killed", "load_failed"} and kinds["killed"] >= WORKER_KILLS // 2
    for folder in tmp_path.glob("run*"):
        before = left_in(folder)
        assert Running(scenario_file, folder).end() == 0
        assert_nothing_lost(before, folder)
        assert_complete(folder)


def test_killed_harness_leaves_whole_records_and_no_worker(tmp_path):
    scenario_file, rng = small_scenario(tmp_path), random.Random(2)
    kills, attempt, orphans = 0, 0, 0
    while kills < HARNESS_KILLS:
        folder = tmp_path / f"run{attempt}"
        before = left_in(folder)
        run = Running(scenario_file, folder)
        deadline = time.monotonic() + rng.uniform(0.1, 12.0)
        while time.monotonic() < deadline and not run.is_over:
            time.sleep(0.01)
        workers, just_before = run.workers(), left_in(folder)
        run.process.kill()
        code = run.end()
        kills += code == -signal.SIGKILL
        attempt += code == 0
        orphans += len(workers)
        assert all(is_gone(worker, ORPHAN_LIMIT_S) for worker in workers)
        assert_nothing_lost(before, folder)
        assert_nothing_lost(just_before, folder)
    assert orphans >= HARNESS_KILLS // 2, "most kills hit a run with a worker"
    for folder in tmp_path.glob("run*"):
        before = left_in(folder)
        assert Running(scenario_file, folder).end() == 0
        assert_nothing_lost(before, folder)
        assert_complete(folder)


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_run_says_how_to_go_on_and_keeps_its_records(tmp_path, signal_sent):
    scenario_file, folder = small_scenario(tmp_path, repeats=2), tmp_path / "run"
    run = Running(scenario_file, folder)
    run.wait_for_records(2)
    before, workers = run.left(), run.workers()
    run.process.send_signal(signal_sent)
    assert run.end(timeout_s=10) == 5
    assert f"--resume --out {folder}" in run.stderr and "records so far are in" in run.stderr
    assert workers and all(is_gone(worker, ORPHAN_LIMIT_S) for worker in workers)
    assert_nothing_lost(before, folder)
    assert read_run(folder).info["finished_utc"] is None
    assert Running(scenario_file, folder).end() == 0
    assert_nothing_lost(before, folder)
    assert len(read_run(folder).finished()) == 10


def test_ctrl_c_in_a_terminal_does_not_reach_the_worker(tmp_path):
    """A terminal sends it to the whole group of processes: only the harness may answer, so that it can say what to do."""
    scenario_file, folder = small_scenario(tmp_path, repeats=2), tmp_path / "run"
    run = Running(scenario_file, folder, start_new_session=True)
    run.wait_for_records(1)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end(timeout_s=10) == 5
    assert "interrupted" in run.stderr
    assert {record["status"] for record in records_of(folder)} == {"ok"}


@pytest.mark.parametrize("delay_s", [0.0, 1.0], ids=["worker-starts", "worker-imports"])
def test_ctrl_c_before_anything_is_measured_writes_nothing(tmp_path, delay_s):
    scenario_file, folder = small_scenario(tmp_path), tmp_path / "run"
    run = Running(scenario_file, folder)
    workers = [run.wait_for_worker(set())]
    time.sleep(delay_s)
    run.process.send_signal(signal.SIGINT)
    assert run.end(timeout_s=10) == 5
    assert "interrupted" in run.stderr and not folder.exists()
    assert all(is_gone(worker, ORPHAN_LIMIT_S) for worker in workers)


HANGING_PARENT = """
from harness.worker.client import Worker
worker = Worker("fake_backend:Fake")
print(worker.pid, flush=True)
worker.ask("hang", timeout_s=600)
"""


def test_worker_that_hangs_ends_with_its_parent():
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(ROOT / "tests" / "harness")])
    env = environment(PYTHONPATH=path)
    parent = subprocess.Popen([sys.executable, "-c", HANGING_PARENT], stdout=subprocess.PIPE, text=True, env=env)
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert not is_gone(worker, 0.5)
    parent.kill()
    parent.wait()
    assert is_gone(worker, ORPHAN_LIMIT_S)
