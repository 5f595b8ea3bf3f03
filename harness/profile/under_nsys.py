"""One cell under nsys: with CUDA traced where there is a GPU, and with NVTX alone where that fails.

In: a job, the tool, what was asked for, a time limit for each try. Out: `Seen`: the ranges and kernels, the passes as the
process timed them, what was traced, notes. An nsys older than the driver may lose kernels, fail to import what it wrote, or
take the profiled process down with it: ranges need none of that.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ProfileError, WorkerError
from harness.profile import nsys
from harness.profile.nsys_sqlite import read_sqlite
from harness.profile.options import ProfileOptions
from harness.profile.process import Job, answer, prepare
from harness.profile.read import DOMAIN
from harness.profile.spans import Trace
from harness.profile.tools import Nsys

NO_CUDA = "nsys: CUDA was not traced"


@dataclass(frozen=True, slots=True)
class Seen:
    """What nsys recorded."""

    trace: Trace
    passes: list[dict]
    cost: dict[str, float]
    """Of one range, in this process."""
    traced: str
    notes: tuple[str, ...]

    @property
    def lost_kernels(self) -> bool:
        """Whether CUDA was traced in vain, or could not be."""
        return bool(self.notes) or (self.traced == nsys.CUDA and self.trace.missing_kernels is not None)


def traces_of(wish: str, *, on_gpu: bool) -> tuple[str, ...]:
    """What is traced, in the order in which it is tried."""
    if not on_gpu or wish == "nvtx":
        return (nsys.NVTX,)
    return (nsys.CUDA,) if wish == "cuda" else (nsys.CUDA, nsys.NVTX)


def under_nsys(job: Job, folder: Path, scratch: Path, tool: Nsys, *, options: ProfileOptions, timeout_s: float) -> Seen:
    """The first try that succeeds; the last one's error where none does."""
    *others, last = traces_of(options.nsys_trace, on_gpu=job.on_gpu)
    notes = []
    for traced in others:
        try:
            return _once(job, folder, scratch, tool, passes=options.nsys_passes, timeout_s=timeout_s, traced=traced)
        except (ProfileError, WorkerError) as error:
            notes.append(f"nsys --trace={traced} failed and was run again with --trace={last}: {error}")
    seen = _once(job, folder, scratch, tool, passes=options.nsys_passes, timeout_s=timeout_s, traced=last)
    return replace(seen, notes=tuple(notes))


def _once(job: Job, folder: Path, scratch: Path, tool: Nsys, *, passes: tuple[str, ...], timeout_s: float, traced: str) -> Seen:
    command = prepare(job, folder, scratch, passes)
    export = nsys.collect(tool, command, scratch, timeout_s=timeout_s, trace=traced)
    done = answer(scratch, 0, scratch / "nsys.log")["result"]
    trace = read_sqlite(export, domain=DOMAIN)
    if traced == nsys.NVTX:
        trace = replace(trace, kernels=None, no_kernels=NO_CUDA)
    return Seen(trace, done["passes"], done["cost"], traced, ())
