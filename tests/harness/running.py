"""A `harness run` under way in a process of its own, to be disturbed; what its folder holds at any moment.

In: a scenario file and the run's folder. Out: the process, its workers, the records that are whole on disk.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from commands import command, environment
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import write_tiny

POLL_S = 0.02
FINISHED = {"run.json", "records.jsonl", "samples", "plots", "report.html", "report.md"}
"""What the folder of a finished run holds, and nothing else."""


@dataclass(frozen=True, slots=True)
class Left:
    """Records that were whole at one moment, and the samples that the good ones name."""

    records: bytes
    samples: dict[Path, bytes]


class Running:
    """One `harness run`, with `--resume` where the folder already holds a run."""

    def __init__(self, scenario_file: Path, folder: Path, **options):
        self.folder = folder
        self.is_resumed = (folder / "run.json").exists()
        resume = ["--resume"] if self.is_resumed else []
        self._log = scenario_file.parent / "stderr.txt"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command("run", scenario_file, "--out", folder, *resume),
                cwd=scenario_file.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(),
                **options,
            )

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "harness.worker" in child.cmdline()]
        except psutil.NoSuchProcess:
            return []

    def wait_for_worker(self, known: set[int]) -> psutil.Process | None:
        """The next worker that is not in `known`; None when the run ends first."""
        while not self.is_over:
            for worker in self.workers():
                if worker.pid not in known:
                    return worker
            time.sleep(POLL_S)
        return None

    def wait_for_records(self, count: int, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while len(records_of(self.folder)) < count:
            assert time.monotonic() < deadline and not self.is_over, self.stderr[-2000:]
            time.sleep(POLL_S)

    def end(self, timeout_s: float = 200.0) -> int:
        """Wait for the end; the exit code. Whatever happened, no traceback was shown."""
        code = self.process.wait(timeout=timeout_s)
        assert "Traceback" not in self.stderr, self.stderr
        return code

    def left(self) -> Left:
        return left_in(self.folder)


def small_scenario(folder: Path, repeats: int = 5) -> Path:
    """Two precisions of a tiny model, a few tenths of a second a cell."""
    write_tiny(folder / "mine")
    data = scenario_data()
    first = data["workloads"][0] | {"prompt_tokens": 32, "output_tokens": 64, "num_requests": 4}
    batch = first | {"name": "batch", "arrival": {"kind": "closed", "concurrency": 4}}
    data |= {"models": [{"name": "mine", "path": "mine"}], "workloads": [first, batch], "repeats": repeats}
    return write_scenario(folder, data)


def whole_lines(folder: Path) -> bytes:
    """records.jsonl up to its last whole line."""
    file = folder / "records.jsonl"
    content = file.read_bytes() if file.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def records_of(folder: Path) -> list[dict]:
    """Every line of records.jsonl, failed ones and those measured again included."""
    return [json.loads(line) for line in whole_lines(folder).splitlines()]


def left_in(folder: Path) -> Left:
    """What must never be lost from here on."""
    content = whole_lines(folder)
    good = [record for record in map(json.loads, content.splitlines()) if record["status"] == "ok"]
    names = [folder / name for record in good for name in record["samples"].values()]
    return Left(content, {name: name.read_bytes() for name in names})


def assert_nothing_lost(before: Left, folder: Path) -> None:
    """Each record that was whole is there byte for byte, in its place, with its samples."""
    assert whole_lines(folder).startswith(before.records)
    assert {name: name.read_bytes() for name in before.samples} == before.samples


def is_gone(worker: psutil.Process, timeout_s: float) -> bool:
    """Whether the process ends in time; one that only waits to be reaped has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if worker.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(POLL_S)
    return False
