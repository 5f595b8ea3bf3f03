"""The worker process: answers, and each way it can end, seen from the parent."""

import os
import time

import pytest

from harness.errors import ScenarioError, StorageError, WorkerError
from harness.worker.client import Worker


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "kernels", "tests/harness"]))
    with Worker("fake_backend:Fake") as running:
        yield running


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answer_and_progress(worker):
    seen = []
    assert worker.ask("echo", timeout_s=20, progress=lambda *told: seen.append(told), value=[1, "a"]) == [
        1,
        "a",
    ]
    assert seen and seen[0] == (0, 3, "echoing")


def test_what_libraries_print_does_not_reach_the_protocol(worker):
    assert worker.ask("noise", timeout_s=20) == "clean"


def test_wrong_input_is_the_users_error(worker):
    with pytest.raises(ScenarioError, match="tensor x: holds NaN"):
        worker.ask("input_error", timeout_s=20)


def test_a_bug_is_named_with_its_place_and_the_worker_lives_on(worker):
    with pytest.raises(WorkerError, match=r"division by zero \(in fake_backend.py:\d+\)"):
        worker.ask("bug", timeout_s=20)
    assert worker.ask("echo", timeout_s=20, value=1) == 1


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        pytest.param("no_memory", "out_of_memory", "MemoryError", id="out-of-memory"),
        pytest.param("die", "killed", "SIGKILL", id="killed"),
        pytest.param("leave", "crashed", "exit code 7; its last words: last words", id="exited"),
    ],
)
def test_how_it_ended(worker, command, kind, words):
    with pytest.raises(WorkerError, match=words) as caught:
        worker.ask(command, timeout_s=20)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param("disk_full", "No space left on device", id="by-the-system"),
        pytest.param("not_stored", "samples/x.parquet: could not be stored", id="by-the-writer"),
    ],
)
def test_full_disk_is_no_failure_of_the_cell(worker, command, words):
    with pytest.raises(StorageError, match=words):
        worker.ask(command, timeout_s=20)


def test_no_place_for_a_log_is_said(monkeypatch):
    def full():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("harness.worker.client.tempfile.TemporaryFile", full)
    with pytest.raises(StorageError, match="No usable temporary directory.*TMPDIR"):
        Worker("fake_backend:Fake")


def test_hang_is_ended_after_the_time_limit(worker):
    started = time.monotonic()
    with pytest.raises(WorkerError, match="no sign of life for 1 s") as caught:
        worker.ask("hang", timeout_s=1)
    assert caught.value.kind == "hang" and time.monotonic() - started < 10
    assert not is_running(worker.pid)


def test_dead_worker_is_noticed_on_the_next_command(worker):
    with pytest.raises(WorkerError):
        worker.ask("die", timeout_s=20)
    with pytest.raises(WorkerError) as caught:
        worker.ask("echo", timeout_s=20, value=1)
    assert caught.value.kind == "killed"


def test_closing_ends_the_process(worker):
    worker.ask("echo", timeout_s=20, value=1)
    worker.close()
    assert not is_running(worker.pid)
