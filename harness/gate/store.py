"""Stored baselines: one run a (machine, scenario), kept by the machine's fingerprint, replaced only with a reason.

    <root>/<fingerprint>/<scenario>/run.json records.jsonl baseline.json        root: results/baselines/gates
    baseline.json   the machine's facts, and a line an update: when, why, which run and commit before and after

Raises BaselineError (exit 4) where there is none for this machine, NothingMeasuredError (exit 3) where a run is not fit to
be one. Samples are not kept: a gate needs the records alone.
"""

import json
import shutil
from pathlib import Path

from harness.errors import HarnessError, NothingMeasuredError, UsageError
from harness.gate.fingerprint import fingerprint
from harness.record import RunWriter, provenance
from harness.record.write import INFO, RECORDS
from harness.report.data import LoadedRun, load
from harness.stats.bootstrap import MIN_REPEATS

DEFAULT_ROOT = Path("results/baselines/gates")
HISTORY = "baseline.json"


class BaselineError(HarnessError):
    """No baseline, or one that must not be held against this run."""

    exit_code = 4


def find_baseline(run: LoadedRun, where: Path | None) -> LoadedRun:
    """The baseline for a run: the run folder `where`, or the one kept below `where` for this machine and scenario."""
    if where is not None and (where / INFO).is_file():
        return load(where)
    root = where or DEFAULT_ROOT
    folder = folder_of(run, root)
    if (folder / INFO).is_file():
        return load(folder)
    if where is not None and not where.is_dir():
        raise BaselineError(f"{where}: no such baseline; give a run's folder, or a folder of baselines")
    raise BaselineError(
        f"{root}: no baseline of {run.scenario_name!r} for this machine ({fingerprint(run).short}).\n{_others(run, root)}"
    )


def require_same_machine(baseline: LoadedRun, run: LoadedRun) -> None:
    """Raise BaselineError, naming the facts, when the two runs were taken on different machines."""
    unlike = fingerprint(baseline).unlike(fingerprint(run))
    if unlike:
        facts = "\n".join(f"  {line}" for line in unlike)
        raise BaselineError(
            f"{baseline.path}: taken on another machine, so its times say nothing about this one:\n{facts}\n"
            "Compare machines with `harness compare`; gate this one with --ab, or take a baseline here with --update --reason"
        )


def folder_of(run: LoadedRun, root: Path) -> Path:
    """Where the baseline of a run's machine and scenario is kept."""
    return root / fingerprint(run).short / run.scenario_name


def update_baseline(run: LoadedRun, root: Path | None, reason: str) -> Path:
    """Make a run the baseline of its machine and scenario; gives the folder."""
    if not reason.strip():
        raise UsageError("--update: needs --reason TEXT, which is kept beside the baseline")
    _require_fit(run)
    folder = folder_of(run, root or DEFAULT_ROOT)
    before = load(folder) if (folder / INFO).is_file() else None
    history = _history(folder)
    line = {
        "updated_utc": provenance.utc_now(),
        "reason": reason.strip(),
        "run_id": run.run_id,
        "git_commit": run.provenance.get("git_commit"),
        "replaced_run_id": before.run_id if before else None,
        "replaced_git_commit": before.provenance.get("git_commit") if before else None,
    }
    content = {"machine": dict(fingerprint(run).facts), "fingerprint": fingerprint(run).sha256, "updates": [*history, line]}
    writer = RunWriter(folder)
    writer.store(HISTORY, lambda path: path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))
    for name in (INFO, RECORDS):
        writer.store(name, lambda path, name=name: shutil.copyfile(run.path / name, path))
    return folder


def _history(folder: Path) -> list[dict]:
    path = folder / HISTORY
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))["updates"]
    except (ValueError, KeyError, TypeError):
        raise BaselineError(f"{path}: cannot be read; restore it, or remove the folder and update again") from None


def _require_fit(run: LoadedRun) -> None:
    """A baseline is whole: no failed or invalid record, and enough repeats to be judged against."""
    problems = [f"{r['cell_id']} repeat {r['repeat']}: {r['status']}" for r in run.records if r["status"] != "ok"]
    problems += [
        f"{r['cell_id']} repeat {r['repeat']}: INVALID"
        for r in run.records
        if r["status"] == "ok" and r["verdict"]["state"] == "INVALID"
    ]
    counts: dict[str, int] = {}
    for record in run.records:
        if record["workload"]["kind"] != "heldout":
            counts[record["cell_id"]] = counts.get(record["cell_id"], 0) + 1
    problems += [f"{cell}: {n} repeats, needs {MIN_REPEATS}" for cell, n in counts.items() if n < MIN_REPEATS]
    if not run.records or problems:
        listed = "\n".join(f"  {line}" for line in problems[:8]) or "  it has no record"
        raise NothingMeasuredError(f"{run.path}: not fit to be a baseline:\n{listed}\nRun it again with --set repeats=10")


def _others(run: LoadedRun, root: Path) -> str:
    found = []
    for path in sorted(root.glob(f"*/{run.scenario_name}/{HISTORY}")):
        facts = json.loads(path.read_text(encoding="utf-8")).get("machine", {})
        found.append(f"  {path.parent.parent.name}: {', '.join(f'{key} {value}' for key, value in facts.items())}")
    others = (
        "There are baselines of other machines, which must not be used here:\n" + "\n".join(found)
        if found
        else "There is none of any machine."
    )
    return (
        f"{others}\nTake one with `harness gate {run.path} --update --reason TEXT`, or measure both commits in turn with --ab"
    )
