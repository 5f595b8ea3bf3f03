"""`harness run`: prepare, measure group by group, record as each (cell, repeat) ends, report.

Nothing is written before the scenario and its checkpoints are found good. Ctrl-C ends the worker, keeps every record
and says how to go on.
"""

import shutil
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from harness.agreement import agreement_metrics, find_reference, quality_agreement
from harness.device import Device
from harness.drops import drop_lines, group_drops
from harness.errors import InterruptedRunError, NothingMeasuredError
from harness.plan import Cell
from harness.progress import RunProgress, say
from harness.quality import NO_BASELINE, change_metrics, find_baseline
from harness.record import SCHEMA_VERSION, Run, RunWriter, provenance, read_run
from harness.run.folder import find_interrupted, new_folder, scenario_sha256
from harness.run.group import interleaved, measure_group
from harness.run.prepare import Prepared, prepare
from harness.run.records import make_record, plan_block
from harness.scenario.schema import Scenario

SCRATCH = "scratch"
"""Below a run's folder: what one worker leaves for the next, removed when all is measured."""


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
    folder = before.folder if before else new_folder(scenario, options.out)
    prepared = prepare(scenario, device, only=options.only)
    if not prepared.plan.cells:
        reasons = drop_lines(plan_block(prepared)["dropped"])
        raise NothingMeasuredError(f"{scenario.name}: no cell can run here:\n{reasons}")
    for group in group_drops(plan_block(prepared)["dropped"]):
        say(f"dropped: {group.line}")
    writer = _reopen(prepared, before) if before else start_run(prepared, folder)
    work = _work_left(prepared, before)
    try:
        _measure_all(work, prepared, writer, list(before.records) if before else [])
    except KeyboardInterrupt:
        resume = f"harness run ... --resume --out {writer.folder}"
        raise InterruptedRunError(f"interrupted; records so far are in {writer.folder}. Go on with: {resume}") from None
    return _finish(writer)


def start_run(prepared: Prepared, folder: Path) -> RunWriter:
    """A new run's folder with its run.json."""
    scenario = prepared.scenario
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


def _reopen(prepared: Prepared, before: Run) -> RunWriter:
    """Go on in the folder; cells that the earlier command left out (`--only`) join its plan."""
    writer = RunWriter.reopen(before.folder)
    plan = plan_block(prepared)
    cells = {cell["cell_id"]: cell for cell in [*plan["cells"], *before.info["plan"]["cells"]]}
    plan["cells"] = list(cells.values())
    writer.write_info(before.info | {"finished_utc": None, "plan": plan})
    return writer


def _work_left(prepared: Prepared, before: Run | None) -> list[tuple[Cell, int]]:
    """(cell, repeat) in order, without those that an interrupted run has finished.

    A quality that was measured while BF16's was missing, since its worker had died, is measured again to be held against
    it. BF16's is measured again where another precision's is still to come and the distribution that it is held against
    is gone: scratch is removed when a command has measured all that it was asked for.
    """
    groups = groupby(prepared.plan.cells, key=lambda cell: cell.group)
    work = [item for _, cells in groups for item in interleaved(list(cells), prepared)]
    if before is None:
        return work
    done = before.finished() - _uncompared(prepared, before)
    left = [(cell, repeat) for cell, repeat in work if (cell.cell_id, repeat) not in done]
    compared = {cell.model for cell, _ in left if cell.is_quality and not cell.precision.is_baseline}
    lost = {model for model in compared if not (before.folder / SCRATCH / model).is_dir()}
    return [
        (cell, repeat)
        for cell, repeat in work
        if (cell, repeat) in left or (cell.is_quality and cell.precision.is_baseline and cell.model in lost)
    ]


def _uncompared(prepared: Prepared, before: Run) -> set[tuple[str, int]]:
    """(cell id, repeat) of qualities that lack only the BF16 run of their model, which this plan has."""
    has_baseline = {cell.model for cell in prepared.plan.cells if cell.is_quality and cell.precision.is_baseline}
    return {
        (record["cell_id"], record["repeat"])
        for record in before.records
        if record["model"] in has_baseline
        and record["status"] == "ok"
        and record["metrics"].get("perplexity_change_pct", {}).get("reason") == NO_BASELINE
    }


def _measure_all(work: list, prepared: Prepared, writer: RunWriter, records: list[dict]) -> None:
    has_several_backends = len(prepared.scenario.backends) > 1
    with RunProgress(work) as progress:
        for _, group in groupby(work, key=lambda item: item[0].group):
            started_utc, started = provenance.utc_now(), time.monotonic()
            for measurement in measure_group(list(group), prepared, str(writer.folder), progress.update):
                duration_s = time.monotonic() - started
                record = make_record(measurement, prepared, started_utc=started_utc, duration_s=duration_s)
                if record["status"] == "ok" and record["workload"]["kind"] == "heldout":
                    baseline = find_baseline([*records, record], record["model"], record["backend"])
                    record["metrics"] |= change_metrics(writer.folder, record, baseline)
                if record["status"] == "ok" and has_several_backends:
                    compare = quality_agreement if record["workload"]["kind"] == "heldout" else agreement_metrics
                    record["metrics"] |= compare(writer.folder, record, find_reference(records, record))
                writer.append(record)
                records.append(record)
                progress.finished(measurement.cell, measurement.repeat, record)
                started_utc, started = provenance.utc_now(), time.monotonic()


def _finish(writer: RunWriter) -> Outcome:
    run = read_run(writer.folder)
    if len(run.finished()) == sum(_repeats(run, cell) for cell in run.info["plan"]["cells"]):
        shutil.rmtree(writer.folder / SCRATCH, ignore_errors=True)
    writer.sweep()
    writer.write_info(run.info | {"finished_utc": provenance.utc_now()})
    run = read_run(writer.folder)
    failed = [record for record in run.records if record["status"] != "ok"]
    invalid = [r for r in run.records if r["status"] == "ok" and r["verdict"]["state"] == "INVALID"]
    return Outcome(run, len(failed), len(invalid))


def _repeats(run: Run, cell: dict) -> int:
    return 1 if cell["workload"]["kind"] == "heldout" else run.info["scenario"]["repeats"]
