"""`harness run`: prepare, measure group by group, record as each (cell, repeat) ends, report.

Nothing is written before the scenario and its checkpoints are found good. Ctrl-C ends the worker, keeps every record
and says how to go on.
"""

import shutil
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from harness.device import Device
from harness.errors import InterruptedRunError, NothingMeasuredError
from harness.progress import RunProgress
from harness.quality import change_metrics, find_baseline
from harness.record import SCHEMA_VERSION, Run, RunWriter, provenance, read_run
from harness.run.folder import find_interrupted, new_folder, scenario_sha256
from harness.run.group import interleaved, measure_group
from harness.run.prepare import Prepared, prepare
from harness.run.records import make_record, plan_block
from harness.scenario.schema import Scenario


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line adds to a scenario."""

    only: str | None = None
    out: Path | None = None
    resume: str = "no"
    """`yes` goes on with an interrupted run, `no` starts a new one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left."""

    run: Run
    num_failed: int
    num_invalid: int


def execute(scenario: Scenario, device: Device, options: RunOptions) -> Outcome:
    """Run a scenario to its end; raises HarnessError subclasses with the exit code that each stands for."""
    before = find_interrupted(scenario, options.out) if options.resume == "yes" else None
    prepared = prepare(scenario, device, only=options.only)
    if not prepared.plan.cells:
        reasons = "\n".join(f"  {item.cell.cell_id}: {item.reason}" for item in prepared.plan.dropped)
        raise NothingMeasuredError(f"{scenario.name}: no cell can run here:\n{reasons}")
    writer = RunWriter.reopen(before.folder) if before else _start(prepared, options)
    done = before.finished() if before else set()
    work = [item for item in _all_work(prepared) if (item[0].cell_id, item[1]) not in done]
    try:
        _measure_all(work, prepared, writer, list(before.records) if before else [])
    except KeyboardInterrupt:
        resume = f"harness run ... --resume --out {writer.folder}"
        raise InterruptedRunError(
            f"interrupted; records so far are in {writer.folder}. Go on with: {resume}"
        ) from None
    return _finish(writer)


def _start(prepared: Prepared, options: RunOptions) -> RunWriter:
    scenario = prepared.scenario
    folder = new_folder(scenario, options.out)
    info = {
        "schema_version": SCHEMA_VERSION,
        "run_id": folder.name,
        "scenario_name": scenario.name,
        "scenario": scenario.model_dump(mode="json"),
        "scenario_sha256": scenario_sha256(scenario),
        "started_utc": provenance.utc_now(),
        "finished_utc": None,
        "provenance": provenance.collect(provenance.command_line(), scenario.seed),
        "plan": plan_block(prepared),
    }
    return RunWriter.create(folder, info)


def _all_work(prepared: Prepared) -> list:
    groups = groupby(prepared.plan.cells, key=lambda cell: cell.group)
    return [item for _, cells in groups for item in interleaved(list(cells), prepared)]


def _measure_all(work: list, prepared: Prepared, writer: RunWriter, records: list[dict]) -> None:
    with RunProgress(work) as progress:
        for _, group in groupby(work, key=lambda item: item[0].group):
            started_utc, started = provenance.utc_now(), time.monotonic()
            for measurement in measure_group(list(group), prepared, str(writer.folder), progress.update):
                duration_s = time.monotonic() - started
                record = make_record(measurement, prepared, started_utc=started_utc, duration_s=duration_s)
                if record["status"] == "ok" and record["workload"]["kind"] == "heldout":
                    baseline = record if measurement.cell.precision.is_baseline else None
                    baseline = baseline or find_baseline(records, record["model"], record["backend"])
                    record["metrics"] |= change_metrics(writer.folder, record, baseline)
                writer.append(record)
                records.append(record)
                progress.finished(measurement.cell, measurement.repeat, record)
                started_utc, started = provenance.utc_now(), time.monotonic()


def _finish(writer: RunWriter) -> Outcome:
    run = read_run(writer.folder)
    if len(run.finished()) == sum(_repeats(run, cell) for cell in run.info["plan"]["cells"]):
        shutil.rmtree(writer.folder / "scratch", ignore_errors=True)
    writer.write_info(run.info | {"finished_utc": provenance.utc_now()})
    run = read_run(writer.folder)
    failed = [record for record in run.records if record["status"] != "ok"]
    invalid = [r for r in run.records if r["status"] == "ok" and r["verdict"]["state"] == "INVALID"]
    return Outcome(run, len(failed), len(invalid))


def _repeats(run: Run, cell: dict) -> int:
    return 1 if cell["workload"]["kind"] == "heldout" else run.info["scenario"]["repeats"]
