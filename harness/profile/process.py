"""The process that is profiled, seen from outside: its job file, its bounded run, its answer.

In: a job, a folder, the passes. Out: the command, or what the process answered; a WorkerError for one that crashes, hangs, is
killed or reports an error. nsys and ncu run the same command with themselves in front.
"""

import json
import shutil
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ProfileError, StorageError, WorkerError
from harness.profile import nsys
from harness.profile.target import RESULT
from harness.telemetry.sampler import Telemetry, open_sampler
from harness.worker.client import reported


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about a cell that the profiled process is told."""

    backend: str
    load: dict
    cell: dict
    seed: int
    timeout_s: float
    on_gpu: bool
    telemetry_rate_hz: float = 10.0


def run(job: Job, folder: Path, scratch: Path, passes: tuple[str, ...]) -> tuple[dict, Telemetry]:
    """What the process answered, and the telemetry of its life."""
    command, log = prepare(job, folder, scratch, passes), scratch / "target.log"
    with ExitStack() as stack:
        samplers = []

        def watch(pid: int) -> None:
            samplers.append(stack.enter_context(open_sampler(pid, on_gpu=job.on_gpu, rate_hz=job.telemetry_rate_hz)))

        try:
            ended = nsys.run_bounded(command, log=log, timeout_s=job.timeout_s, what="the profiled process", started=watch)
        except ProfileError as error:
            raise WorkerError("hang", str(error)) from None
    return answer(scratch, ended.code, log), samplers[0].telemetry


def prepare(job: Job, folder: Path, scratch: Path, passes: tuple[str, ...]) -> list[str]:
    """The command, with its job file written and an older answer removed."""
    profile = {"cell": job.cell, "folder": str(folder.absolute()), "seed": job.seed, "passes": list(passes)}
    text = json.dumps({"backend": job.backend, "load": job.load, "profile": profile})
    path = scratch / "job.json"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{scratch}: could not be stored ({error.strerror}); free some space") from None
    return [sys.executable, "-m", "harness.profile.target", str(path.absolute())]


def answer(scratch: Path, code: int, log: Path) -> dict:
    """What the process wrote; an error for what it reports, or for its end without a word."""
    path = scratch / RESULT
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if "error" in found:
            raise reported(found["error"])
        return found
    if code < 0:
        raise WorkerError("killed", f"the profiled process was ended by {signal.Signals(-code).name}. {nsys.tail(log)}")
    raise WorkerError("crashed", f"the profiled process left no result (exit code {code}). {nsys.tail(log)}")
