"""Run a command under nsys, import what it left, export it: each step bounded, nothing left running.

In: a command, a folder, a time limit. Out: the sqlite export; ProfileError with its cause (missing, hang, killed, crashed,
disk full, nothing imported) and nsys's last words. CPU sampling and context switches are off: in some virtual machines nsys's
agent spins for good over them. nsys starts an agent in a process group of its own; everything whose ancestor or session is
ours is ended, whatever happened.
"""

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.errors import ProfileError, StorageError
from harness.profile.tools import Nsys

QUIET = ("--sample=none", "--cpuctxsw=none")
POLL_S, LOOK_S = 0.05, 1.0
IMPORT_TIMEOUT_S = 120.0
CUDA, NVTX = "cuda,nvtx", "nvtx"
"""What nsys traces: kernels with their launches beside the ranges, or the ranges alone."""
LEFT = ("nsys.nsys-rep", "nsys.qdstrm", "nsys.sqlite")
TAIL_CHARS = 300
MARK = "HARNESS_PROFILE_MARK"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a bounded command ended."""

    code: int
    output: str


def run_bounded(
    command: list[str], *, log: Path, timeout_s: float, what: str, started: Callable[[int], object] = lambda pid: None
) -> Finished:
    """Run to its end; ProfileError after `timeout_s`. Every process that it started is ended before this returns.

    `started` is told the process's id.
    """
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    environment = os.environ | {MARK: mark}
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
            )
    except OSError as error:
        raise _cannot_start(command[0], log, error) from None
    seen: set[psutil.Process] = set()
    deadline = time.monotonic() + timeout_s
    try:
        started(process.pid)
        look_s = 0.0
        while process.poll() is None:
            if time.monotonic() >= look_s:  # seldom: reading /proc takes milliseconds, and something is being measured
                _note_children(process.pid, seen)
                look_s = time.monotonic() + LOOK_S
            if time.monotonic() > deadline:
                raise ProfileError(f"{what}: no end after {timeout_s:g} s; it was ended. {tail(log)}")
            time.sleep(POLL_S)
        return Finished(process.returncode, log.read_text(errors="replace"))
    finally:
        _end_all(process, seen, mark)


def _cannot_start(program: str, log: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{log}: could not be stored ({error.strerror}); free some space")
    return ProfileError(f"{program}: cannot be started ({error.strerror})")


def _note_children(pid: int, seen: set) -> None:
    try:
        seen.update(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return


def _end_all(process: subprocess.Popen, seen: set, mark: str) -> None:
    """The process's group, what was seen below it, and whatever carries our mark in its environment."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    others = {*seen, *_marked(mark)}
    for other in others:
        with contextlib.suppress(psutil.Error):
            other.kill()  # psutil knows a process by its start time too: a reused number is not hit
    psutil.wait_procs(list(others), timeout=2.0)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for other in psutil.process_iter():
        try:
            if other.environ().get(MARK) == mark:
                found.append(other)
        except (psutil.Error, OSError):
            continue
    return found


def tail(log: Path) -> str:
    """The last words of a log, its progress bars left out."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip() and "%" not in line]
    return f"Its last words: {' | '.join(lines[-3:])[-TAIL_CHARS:]}" if lines else "It said nothing."


def profile_command(nsys: Nsys, report: Path, command: list[str], *, trace: str) -> list[str]:
    """`report` without suffix. `trace`: CUDA or NVTX."""
    knows_nodes = tuple(map(int, nsys.version.split(".")[:2])) >= (2021, 5)
    graphs = ["--cuda-graph-trace=node"] if trace == CUDA and knows_nodes else []
    return [
        nsys.path, "profile", f"--trace={trace}", *QUIET, *graphs, "--force-overwrite=true", "--export=none",
        f"--output={report}", *command,
    ]  # fmt: skip


def collect(nsys: Nsys, command: list[str], folder: Path, *, timeout_s: float, trace: str) -> Path:
    """Profile `command`; the sqlite export. The command's own exit code is nsys's, and is checked by what it left."""
    report, log = folder / "nsys", folder / "nsys.log"
    for name in LEFT:
        (folder / name).unlink(missing_ok=True)  # an older report would be taken for this one's
    full = profile_command(nsys, report, command, trace=trace)
    ended = run_bounded(full, log=log, timeout_s=timeout_s, what="nsys profile")
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        raise ProfileError(f"nsys profile: ended by {name}. {tail(log)}")
    _check_space(ended, log)
    return export(nsys, folder, ended)


def export(nsys: Nsys, folder: Path, ended: Finished) -> Path:
    """nsys.nsys-rep, imported where nsys did not, as nsys.sqlite."""
    report, raw, out = folder / "nsys.nsys-rep", folder / "nsys.qdstrm", folder / "nsys.sqlite"
    log = folder / "nsys-import.log"
    if not report.is_file() and raw.is_file():
        if nsys.importer is None:
            raise ProfileError(
                f"nsys left {raw.name} and no QdstrmImporter was found beside {nsys.path}: install its host part"
            )
        run_bounded(
            [nsys.importer, "-i", str(raw), "-o", str(report)], log=log, timeout_s=IMPORT_TIMEOUT_S, what="QdstrmImporter"
        )
    if not report.is_file():
        raise ProfileError(
            f"nsys left no report (exit code {ended.code}). {tail(log if raw.is_file() else folder / 'nsys.log')}"
        )
    command = [nsys.path, "export", "--type=sqlite", "--force-overwrite=true", f"--output={out}", str(report)]
    run_bounded(command, log=log, timeout_s=IMPORT_TIMEOUT_S, what="nsys export")
    if not out.is_file():
        raise ProfileError(f"nsys export left no {out.name}. {tail(log)}")
    return out


def _check_space(ended: Finished, log: Path) -> None:
    if "No space left on device" in ended.output:
        raise StorageError(f"nsys: the disk is full. {tail(log)} Free some space, or set TMPDIR to a larger disk")
