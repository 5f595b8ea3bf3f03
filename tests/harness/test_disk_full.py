"""A disk that fills while a run records: exit 5 with the file's name, records so far readable, `--resume` completes.

The disk is a small tmpfs where mounting is allowed; everywhere, a limit on the size of a file stands in for it.
"""

import resource
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from commands import run_harness
from harness.record import read_run
from running import assert_nothing_lost, left_in
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import write_tiny

pytestmark = pytest.mark.slow
DISK_BYTES = 16 * 1024 * 1024
REPEATS = 6


def scenario(folder: Path, **changes: object) -> Path:
    write_tiny(folder / "mine")
    data = {"models": [{"name": "mine", "path": "mine"}], "precisions": ["bf16"], "repeats": REPEATS}
    return write_scenario(folder, scenario_data() | data | changes)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"]
    mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, free_bytes: int) -> Path:
    """A file that leaves `free_bytes`."""
    filler = disk / "filler"
    filler.write_bytes(b"x" * (DISK_BYTES - free_bytes))
    return filler


def limit_file_size(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def assert_ended_by_the_disk(done: subprocess.CompletedProcess, folder: Path, reason: str) -> int:
    """Exit 5 with one message; what was recorded is readable and good. Gives the number of records."""
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr and "FAILED" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert str(folder) in last and reason in last and "--resume" in last
    run = read_run(folder)
    assert all(record["status"] == "ok" for record in run.records)
    assert not list(folder.rglob("*.part"))
    return len(run.records)


def assert_resume_completes(scenario_file: Path, folder: Path, num_records: int) -> None:
    before = left_in(folder)
    done = run_harness("run", scenario_file, "--resume", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert_nothing_lost(before, folder)
    assert len(read_run(folder).finished()) == num_records


def test_full_disk_while_recording(tmp_path, disk):
    scenario_file, folder = scenario(tmp_path, quality=None), disk / "run"
    filler = fill(disk, 80 * 1024)  # run.json takes 8 KiB, a cell's samples and record about 20
    done = run_harness("run", scenario_file, "--out", folder)
    assert 0 < assert_ended_by_the_disk(done, folder, "No space left on device") < REPEATS
    filler.unlink()
    assert_resume_completes(scenario_file, folder, REPEATS)


def test_full_disk_in_the_worker_ends_the_run_and_not_each_cell(tmp_path, disk):
    """BF16's distribution (256 tokens x 2048 words in FP32) is the first thing that does not fit."""
    scenario_file, folder = scenario(tmp_path), disk / "run"
    filler = fill(disk, 1024 * 1024)
    done = run_harness("run", scenario_file, "--out", folder)
    assert assert_ended_by_the_disk(done, folder, "No space left on device") == 0
    assert "scratch" in done.stderr
    filler.unlink()
    assert_resume_completes(scenario_file, folder, 1 + REPEATS)


def test_file_that_may_not_grow_while_recording(tmp_path):
    scenario_file, folder = scenario(tmp_path, quality=None), tmp_path / "run"
    limit = partial(limit_file_size, 20_000)  # a record of this model takes about 6 kB
    done = run_harness("run", scenario_file, "--out", folder, preexec_fn=limit)
    assert 0 < assert_ended_by_the_disk(done, folder, "File too large") < REPEATS
    assert "records.jsonl" in done.stderr
    assert_resume_completes(scenario_file, folder, REPEATS)


def test_file_that_may_not_grow_in_the_worker(tmp_path):
    scenario_file, folder = scenario(tmp_path), tmp_path / "run"
    done = run_harness("run", scenario_file, "--out", folder, preexec_fn=partial(limit_file_size, 1_000_000))
    assert assert_ended_by_the_disk(done, folder, "File too large") == 0
    assert "scratch" in done.stderr
    assert_resume_completes(scenario_file, folder, 1 + REPEATS)


def test_report_that_cannot_be_stored_says_how_to_write_it_later(tmp_path):
    scenario_file, folder = scenario(tmp_path, quality=None, repeats=1), tmp_path / "run"
    limit = partial(limit_file_size, 40_000)  # a record and its samples are smaller, a report is larger
    done = run_harness("run", scenario_file, "--out", folder, preexec_fn=limit)
    assert done.returncode == 5 and "Traceback" not in done.stderr
    assert f"harness report {folder}" in done.stderr.splitlines()[-1]
    assert len(read_run(folder).finished()) == 1
    assert run_harness("report", folder).returncode == 0
