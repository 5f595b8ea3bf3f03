"""`harness profile`: prepare, profile each cell, record it, say what came of it.

In: a scenario, a device, options. Out: a run's folder like that of `harness run`, each record with a `profile` block. Only
cells with requests are profiled, once each; the workload is cut to what a profile needs, and the record's workload says so.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.device import Device
from harness.drops import drop_lines
from harness.errors import HarnessError, InterruptedRunError, NothingMeasuredError, ScenarioError, StorageError, UsageError
from harness.plan import Cell
from harness.profile.cell import profile_cell
from harness.profile.options import ProfileOptions
from harness.profile.process import Job
from harness.profile.tools import Nsys, find_nsys
from harness.record import RunWriter, provenance, read_run
from harness.record.read import Run
from harness.run.execute import start_run
from harness.run.folder import new_folder
from harness.run.group import Measurement, load_arguments, sample_stem
from harness.run.prepare import Prepared, prepare
from harness.run.records import make_record, plan_block
from harness.scenario.arrival import num_slots
from harness.scenario.schema import Scenario, WorkloadSpec
from harness.workload.bounds import bounds_of

Tell = Callable[[str], None]


def execute_profile(scenario: Scenario, device: Device, options: ProfileOptions, tell: Tell) -> Run:
    """Profile every cell with requests; raises HarnessError subclasses with the exit code that each stands for."""
    tool = choose_tool(options.profiler, tell)
    short = scenario.model_copy(update={"workloads": [shortened(w, options.steps) for w in scenario.workloads]})
    prepared = prepare(short, device, only=options.only)
    cells = [cell for cell in prepared.plan.cells if not cell.is_quality]
    if not cells:
        reasons = drop_lines(plan_block(prepared)["dropped"])
        raise NothingMeasuredError(f"{scenario.name}: no cell with requests can run here:\n{reasons}")
    writer = start_run(prepared, new_folder(scenario, options.out))
    try:
        for cell in cells:
            record = _record(cell, prepared, writer, tool, options=options, tell=tell)
            writer.append(record)
            options = learned(options, record["profile"], tell)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the profiles so far are in {writer.folder}") from None
    writer.write_info(read_run(writer.folder).info | {"finished_utc": provenance.utc_now()})
    return read_run(writer.folder)


def choose_tool(wish: str, tell: Tell) -> Nsys | None:
    """nsys where it is wanted and answers; UsageError where it was asked for by name and does not."""
    if wish == "torch":
        return None
    tool, problem = find_nsys()
    if tool is None and wish == "nsys":
        raise UsageError(f"--profiler nsys: {problem}; or leave the option out: the torch profiler gives the same table")
    tell(f"profiler: nsys {tool.version}, torch profiler" if tool else f"profiler: torch profiler ({problem})")
    return tool


def shortened(workload: WorkloadSpec, steps: int) -> WorkloadSpec:
    """Two rounds of the slots, `steps` tokens each: a profile asks where time goes, not how fast a long run is.

    Answers that are drawn, or that a trace brings, stay as they are where none is longer than `steps`.
    """
    bounds = bounds_of(workload)
    cut = {"output_tokens": max(2, steps)} if bounds.max_output_tokens > steps else {}
    return workload.model_copy(update=cut | {"num_requests": min(bounds.num_requests, 2 * num_slots(workload.arrival))})


def learned(options: ProfileOptions, block: dict | None, tell: Tell) -> ProfileOptions:
    """CUDA is not traced again by an nsys that lost its kernels once: it costs time, and the process its speed."""
    nsys = (block or {}).get("nsys")
    if options.nsys_trace != "auto" or not nsys or not nsys["lost_kernels"]:
        return options
    tell("nsys lost kernels of CUDA: it traces NVTX alone from here on, and kernels are the torch profiler's")
    return replace(options, nsys_trace="nvtx")


def _record(cell: Cell, prepared: Prepared, writer: RunWriter, tool, *, options: ProfileOptions, tell: Tell) -> dict:
    tell(f"profiling {cell.cell_id} ...")
    started_utc, started = provenance.utc_now(), time.monotonic()
    job = Job(
        cell.backend,
        load_arguments(cell, prepared),
        {
            "kind": "requests",
            "model": cell.model,
            "workload": cell.workload.model_dump(mode="json"),
            "stem": sample_stem(cell, 0),
            "eager": options.is_eager,
        },
        prepared.scenario.seed,
        prepared.scenario.limits.load_timeout_s + prepared.scenario.limits.cell_timeout_s,
        prepared.device.is_gpu,
        prepared.scenario.telemetry_rate_hz,
    )
    try:
        loaded, result = profile_cell(job, writer.folder, tool, options)
        measurement = Measurement(cell, 0, loaded, result, None)
    except StorageError:
        raise
    except HarnessError as error:
        tell(f"FAILED: {cell.cell_id}: {error}")
        measurement = Measurement(cell, 0, None, None, _as_worker_error(error))
    record = make_record(measurement, prepared, started_utc=started_utc, duration_s=time.monotonic() - started)
    return record | {"profile": (measurement.result or {}).get("profile")}


def _as_worker_error(error: HarnessError):
    from harness.errors import WorkerError

    if isinstance(error, WorkerError):
        return error
    return WorkerError("bad_input" if isinstance(error, ScenarioError) else "profiler", str(error))


def counts(run: Run) -> tuple[int, int]:
    """(failed, invalid) records."""
    failed = sum(record["status"] != "ok" for record in run.records)
    return failed, sum(record["status"] == "ok" and record["verdict"]["state"] == "INVALID" for record in run.records)


def profiled(run: Run) -> Iterator[tuple[dict, dict]]:
    """(record, profile block) of the cells that have one."""
    for record in run.records:
        if record.get("profile"):
            yield record, record["profile"]
