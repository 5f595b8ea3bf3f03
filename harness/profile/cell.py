"""One cell under the profilers: the passes, each in a bounded process, and the block of the record that comes of them.

In: a cell, what a worker needs to load it, the tools. Out: (loaded, result) as a worker's `measure` gives them, `result` with a
`profile` block. A process that crashes, hangs or is killed is a WorkerError or ProfileError; nsys failing alone is a note and a
WARN where it was not asked for by name.
"""

import json
import shutil
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness.collect.values import missing
from harness.errors import ProfileError, StorageError, WorkerError
from harness.profile import ncu, nsys
from harness.profile.block import profile_block
from harness.profile.nsys_sqlite import read_sqlite
from harness.profile.read import DOMAIN
from harness.profile.spans import Trace
from harness.profile.target import RESULT
from harness.profile.tools import Nsys
from harness.record.write import RunWriter
from harness.run.telemetry import device_reasons, window_of
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.telemetry import store
from harness.telemetry.pace import read_steps
from harness.telemetry.sampler import Telemetry, open_sampler
from harness.verdict import Reason, judge_check, verdict
from harness.worker.client import reported

PLAIN = ("off", "ranges", "off", "ranges", "off", "ranges", "torch")
NO_SPEED = "a profile: its passes are shortened and listened to; `harness run` measures speed"
UNDER_NSYS = ("off", "nvtx", "off", "nvtx")


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


def profile_cell(job: Job, folder: Path, tool: Nsys | None, *, wish: str, kernel_in: str | None = None) -> tuple[dict, dict]:
    """`wish`: auto, nsys or torch. `kernel_in`: a range whose first kernel goes under ncu. `folder`: the run's."""
    scratch = folder / "profile" / job.cell["stem"]
    answer, telemetry = _run(job, folder, scratch / "plain", PLAIN)
    seen, under, problem = None, None, None
    if tool is not None:
        try:
            seen, under = _under_nsys(job, folder, scratch / "nsys", tool)
        except (ProfileError, WorkerError) as error:
            if wish == "nsys":
                raise
            problem = str(error)
    result = answer["result"]
    block = profile_block(folder, result, seen, under, on_gpu=job.on_gpu)
    block["notes"] += [f"nsys failed and was left out: {problem}"] if problem else []
    block["tool"] = f"nsys {tool.version}" if block["sources"]["host"] == "nsys" else "ranges in process"
    block["files"] = _files(folder, scratch, result["passes"])
    block["ncu"] = None if kernel_in is None else _under_ncu(job, folder, scratch / "ncu", kernel_in)
    samples = dict(next(done["samples"] for done in reversed(result["passes"]) if done["name"] == "ranges"))
    name = f"samples/{job.cell['stem']}-telemetry.parquet"
    samples["telemetry"] = RunWriter(folder).store(name, lambda path: store.write(path, telemetry))
    reasons = [*judge_check(answer["loaded"]["check"]), *_device_reasons(job, telemetry, folder, samples)]
    if problem:
        reasons.append(Reason("no_nsys", f"{problem} The table is from the other sources", invalidates=False))
    metrics = result["memory"] | {name: missing(name, NO_SPEED) for name in ("output_throughput", "median_ttft_ms")}
    return answer["loaded"], {"metrics": metrics, "samples": samples, "verdict": verdict(reasons), "profile": block}


def _device_reasons(job: Job, telemetry: Telemetry, folder: Path, samples: dict) -> list[Reason]:
    """Clocks, throttling and a busy machine in the last listened pass."""
    window = window_of(folder, samples)
    if window is None:
        return []
    never_waits = job.cell["workload"]["arrival"]["kind"] == "closed"
    threads = job.load["cpu_threads"] if never_waits else None
    return device_reasons(telemetry, window, read_steps(folder, samples), on_gpu=job.on_gpu, threads=threads)


def _under_ncu(job: Job, folder: Path, scratch: Path, kernel_in: str) -> dict:
    """The kernel's counters, or {"problem"}: the rest of the profile stands without them."""
    program = ncu.find_ncu()
    if program is None:
        return {"problem": "ncu is not here: install Nsight Compute, or put it on the PATH"}
    command = _prepare(replace(job, cell=_few_tokens(job.cell) | {"eager": True}), folder, scratch, ("nvtx",))
    try:
        return ncu.one_kernel(program, kernel_in, command, scratch, timeout_s=job.timeout_s)
    except ProfileError as error:
        return {"problem": str(error)}


def _few_tokens(cell: dict) -> dict:
    """One round of the slots: ncu replays a kernel many times, and one is asked for."""
    slots = WorkloadSpec.model_validate(cell["workload"]).arrival
    workload = cell["workload"] | {"output_tokens": 2, "num_requests": min(num_slots(slots), cell["workload"]["num_requests"])}
    return cell | {"workload": workload}


def _under_nsys(job: Job, folder: Path, scratch: Path, tool: Nsys) -> tuple[Trace, list[dict]]:
    """What nsys recorded, and the passes as the process itself timed them."""
    command = _prepare(job, folder, scratch, UNDER_NSYS)
    export = nsys.collect(tool, command, scratch, timeout_s=job.timeout_s, with_cuda=job.on_gpu)
    passes = _answer(scratch, 0, scratch / "nsys.log")["result"]["passes"]
    return read_sqlite(export, domain=DOMAIN), passes


def _run(job: Job, folder: Path, scratch: Path, passes: tuple[str, ...]) -> tuple[dict, Telemetry]:
    """What the process answered, and the telemetry of its life."""
    command, log = _prepare(job, folder, scratch, passes), scratch / "target.log"
    with ExitStack() as stack:
        samplers = []

        def watch(pid: int) -> None:
            samplers.append(stack.enter_context(open_sampler(pid, on_gpu=job.on_gpu, rate_hz=job.telemetry_rate_hz)))

        try:
            ended = nsys.run_bounded(command, log=log, timeout_s=job.timeout_s, what="the profiled process", started=watch)
        except ProfileError as error:
            raise WorkerError("hang", str(error)) from None
    return _answer(scratch, ended.code, log), samplers[0].telemetry


def _prepare(job: Job, folder: Path, scratch: Path, passes: tuple[str, ...]) -> list[str]:
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


def _answer(scratch: Path, code: int, log: Path) -> dict:
    """What the process wrote; an error for what it reports, or for its end without a word."""
    path = scratch / RESULT
    if path.is_file():
        answer = json.loads(path.read_text(encoding="utf-8"))
        if "error" in answer:
            raise reported(answer["error"])
        return answer
    if code < 0:
        raise WorkerError("killed", f"the profiled process was ended by {signal.Signals(-code).name}. {nsys.tail(log)}")
    raise WorkerError("crashed", f"the profiled process left no result (exit code {code}). {nsys.tail(log)}")


def _files(folder: Path, scratch: Path, passes: list[dict]) -> dict[str, str]:
    """What is kept for other tools: nsys's report, the torch profiler's traces. Exports are removed: the report has it all."""
    kept = {kind: name for done in passes if done["name"] == "torch" for kind, name in done["samples"].items()}
    report = scratch / "nsys" / "nsys.nsys-rep"
    for spare in (scratch / "nsys").glob("nsys.*"):
        if spare.suffix in (".qdstrm", ".sqlite"):
            spare.unlink()
    return kept | ({"nsys": str(report.relative_to(folder))} if report.is_file() else {})
