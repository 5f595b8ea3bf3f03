"""The devices' part of a stored run's verdicts, by today's rules, from the samples that its folder holds.

In: a run's folder. Out: its records with new verdicts, and which of them changed state. Reasons that come from elsewhere are
kept, metrics are not touched, nothing is written. Each verdict says that it was judged again: version, date, state before.
Failed records and qualities have no window of requests, so that telemetry never judged them; they stay as they are.
"""

from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.errors import UsageError
from harness.record.provenance import utc_now
from harness.record.read import Run, read_records, read_run
from harness.record.write import RECORDS
from harness.run.telemetry import device_reasons, window_of
from harness.telemetry import store
from harness.telemetry.judge import CODES
from harness.telemetry.pace import read_steps
from harness.verdict import Reason, add_reasons, without

NOTE = "judged_again"
"""Key in a verdict block: {"harness": version, "utc": when, "state_before"}."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record whose state is another now."""

    cell_id: str
    repeat: int
    before: str
    after: str


def judge_again(folder: Path) -> tuple[list[dict], list[Change]]:
    """Every line of records.jsonl and the changes; UsageError where samples are missing or the run has not ended."""
    run = read_run(folder)
    if not run.info.get("finished_utc"):
        raise UsageError(f"{folder}: --judge-again: the run has not ended; go on with `harness run ... --resume` first")
    lines = read_records(folder / RECORDS)
    last = {_key(record): index for index, record in enumerate(lines)}
    judged = [_judged(run, old) if last[_key(old)] == index else old for index, old in enumerate(lines)]
    states = [(old, old["verdict"]["state"], new["verdict"]["state"]) for old, new in zip(lines, judged, strict=True)]
    return judged, [Change(*_key(old), before, after) for old, before, after in states if before != after]


def _key(record: dict) -> tuple[str, int]:
    return record["cell_id"], record["repeat"]


def _judged(run: Run, record: dict) -> dict:
    """The record with its new verdict; as it is where telemetry does not judge, or where nothing would change."""
    if record["status"] != "ok" or record["workload"]["kind"] != "requests":
        return record
    before = record["verdict"]
    after = add_reasons(without(before, CODES), _reasons(run, record))
    note = before.get(NOTE)
    if note and note["harness"] == __version__ and after == {key: before[key] for key in after}:
        return record
    return record | {"verdict": after | {NOTE: {"harness": __version__, "utc": utc_now(), "state_before": before["state"]}}}


def _reasons(run: Run, record: dict) -> list[Reason]:
    samples = record["samples"]
    where = f"{run.folder / RECORDS}: {record['cell_id']}, repeat {record['repeat']}: --judge-again"
    for kind in ("requests", "telemetry", *({"steps"} & samples.keys())):
        if kind not in samples:
            raise UsageError(f"{where}: the record names no {kind} samples; only a run that kept them can be judged again")
        if not (run.folder / samples[kind]).is_file():
            raise UsageError(
                f"{where}: {samples[kind]} is not there; judge the folder that `harness run` wrote, with its samples"
            )
    try:
        telemetry, steps = store.read(run.folder / samples["telemetry"]), read_steps(run.folder, samples)
        window = window_of(run.folder, samples)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{where}: its samples cannot be read ({error})") from None
    if window is None:
        return []
    never_waits = record["workload"]["arrival"]["kind"] == "closed"
    return device_reasons(
        telemetry,
        window,
        steps,
        on_gpu=record["target"]["kind"] != "cpu",
        threads=run.info["scenario"]["cpu_threads"] if never_waits else None,
        cores=run.info["provenance"]["cpu"]["num_cores"],
    )
