"""One cell under the profilers: the passes, each in a bounded process, and the block of the record that comes of them.

In: a cell, what a worker needs to load it, the tools. Out: (loaded, result) as a worker's `measure` gives them, `result` with a
`profile` block. A process that crashes, hangs or is killed is a WorkerError or ProfileError; nsys failing alone is a note and a
WARN where it was not asked for by name. nsys and ncu are given up on after a multiple of the time that the process took alone.
"""

import time
from dataclasses import replace
from pathlib import Path

from harness.collect.values import missing
from harness.errors import ProfileError, WorkerError
from harness.profile import ncu
from harness.profile.block import profile_block
from harness.profile.options import ProfileOptions
from harness.profile.process import Job, prepare, run
from harness.profile.tools import Nsys
from harness.profile.trim import trim
from harness.profile.under_nsys import Seen, under_nsys
from harness.record.write import RunWriter
from harness.run.telemetry import device_reasons, window_of
from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.telemetry import store
from harness.telemetry.pace import read_steps
from harness.telemetry.sampler import Telemetry
from harness.verdict import Reason, judge_check, verdict

NO_SPEED = "a profile: its passes are shortened and listened to; `harness run` measures speed"
EAGER = "CUDA graphs were off (--eager): the host launches each kernel itself, and a step takes longer than it would"
PATIENCE, EXTRA_S = 2.0, 60.0
"""How much longer than alone a process may take under a profiler: it starts, imports and replays too."""


def profile_cell(job: Job, folder: Path, tool: Nsys | None, options: ProfileOptions) -> tuple[dict, dict]:
    """`folder`: the run's."""
    scratch, started = folder / "profile" / job.cell["stem"], time.monotonic()
    answer, telemetry = run(job, folder, scratch / "plain", options.plain_passes)
    limit_s = min(job.timeout_s, EXTRA_S + PATIENCE * (time.monotonic() - started))
    seen, problem = None, None
    if tool is not None:
        try:
            seen = under_nsys(job, folder, scratch / "nsys", tool, options=options, timeout_s=limit_s)
        except (ProfileError, WorkerError) as error:
            if options.profiler == "nsys":
                raise
            problem = str(error)
    result = answer["result"]
    block = _block(job, folder, result, seen, options)
    block["notes"] += [f"nsys failed and was left out: {problem}"] if problem else []
    block["tool"] = f"nsys {tool.version}" if block["sources"]["host"] == "nsys" else "ranges in process"
    block["files"] = _files(folder, scratch, result["passes"], options.keep_steps)
    block["ncu"] = _under_ncu(job, folder, scratch / "ncu", options.kernel_in, limit_s) if options.kernel_in else None
    samples = dict(next(done["samples"] for done in reversed(result["passes"]) if done["name"] == "ranges"))
    name = f"samples/{job.cell['stem']}-telemetry.parquet"
    samples["telemetry"] = RunWriter(folder).store(name, lambda path: store.write(path, telemetry))
    reasons = [*judge_check(answer["loaded"]["check"]), *_device_reasons(job, telemetry, folder, samples)]
    if problem:
        reasons.append(Reason("no_nsys", f"{problem} The table is from the other sources", invalidates=False))
    metrics = result["memory"] | {name: missing(name, NO_SPEED) for name in ("output_throughput", "median_ttft_ms")}
    return answer["loaded"], {"metrics": metrics, "samples": samples, "verdict": verdict(reasons), "profile": block}


def _block(job: Job, folder: Path, result: dict, seen: Seen | None, options: ProfileOptions) -> dict:
    trace, passes, cost = (seen.trace, seen.passes, seen.cost) if seen else (None, None, None)
    block = profile_block(folder, result, trace, passes, on_gpu=job.on_gpu, nsys_cost=cost)
    block["notes"] += [*(seen.notes if seen else ()), *([EAGER] if options.is_eager and job.on_gpu else [])]
    block["nsys"] = {"traced": seen.traced, "lost_kernels": seen.lost_kernels} if seen else None
    return block


def _device_reasons(job: Job, telemetry: Telemetry, folder: Path, samples: dict) -> list[Reason]:
    """Clocks, throttling and a busy machine in the last listened pass."""
    window = window_of(folder, samples)
    if window is None:
        return []
    never_waits = job.cell["workload"]["arrival"]["kind"] == "closed"
    threads = job.load["cpu_threads"] if never_waits else None
    return device_reasons(telemetry, window, read_steps(folder, samples), on_gpu=job.on_gpu, threads=threads)


def _under_ncu(job: Job, folder: Path, scratch: Path, kernel_in: str, timeout_s: float) -> dict:
    """The kernel's counters, or {"problem"}: the rest of the profile stands without them."""
    program = ncu.find_ncu()
    if program is None:
        return {"problem": "ncu is not here: install Nsight Compute, or put it on the PATH"}
    command = prepare(replace(job, cell=_few_tokens(job.cell) | {"eager": True}), folder, scratch, ("nvtx",))
    try:
        return ncu.one_kernel(program, kernel_in, command, scratch, timeout_s=timeout_s)
    except ProfileError as error:
        return {"problem": str(error)}


def _few_tokens(cell: dict) -> dict:
    """One round of the slots: ncu replays a kernel many times, and one is asked for."""
    slots = WorkloadSpec.model_validate(cell["workload"]).arrival
    workload = cell["workload"] | {"output_tokens": 2, "num_requests": min(num_slots(slots), cell["workload"]["num_requests"])}
    return cell | {"workload": workload}


def _files(folder: Path, scratch: Path, passes: list[dict], keep_steps: int | None) -> dict[str, str]:
    """What is kept for other tools: nsys's report, the torch profiler's traces. Exports are removed: the report has it all."""
    kept = {kind: name for done in passes if done["name"] == "torch" for kind, name in done["samples"].items()}
    for name in kept.values() if keep_steps is not None else ():
        trim(folder / name, keep_steps)
    report = scratch / "nsys" / "nsys.nsys-rep"
    for spare in (scratch / "nsys").glob("nsys.*"):
        if spare.suffix in (".qdstrm", ".sqlite"):
            spare.unlink()
    return kept | ({"nsys": str(report.relative_to(folder))} if report.is_file() else {})
