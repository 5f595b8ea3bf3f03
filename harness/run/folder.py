"""Which folder a run writes to: a new one, or the interrupted one that `--resume` goes on with.

The id is `<UTC time>-<scenario>-<short id>`; the scenario's hash tells whether a folder holds the same question.
"""

import hashlib
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import RunFolderError, UsageError
from harness.record.read import Run, read_run
from harness.record.write import INFO
from harness.scenario.schema import Scenario

DEFAULT_ROOT = Path("results/runs")
NEEDED = ("run_id", "scenario", "scenario_name", "scenario_sha256", "plan")


def scenario_sha256(scenario: Scenario) -> str:
    """Hash of the scenario as resolved: key order, comments and claims do not matter, since they change no measurement."""
    text = json.dumps(scenario.model_dump(mode="json", exclude={"claims"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def new_folder(scenario: Scenario, out: Path | None) -> Path:
    """A folder that no run has used; raises UsageError when `--out` names one that has."""
    if out is None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        return DEFAULT_ROOT / f"{stamp}-{scenario.name}-{secrets.token_hex(3)}"
    if (out / INFO).exists():
        raise UsageError(f"--out {out}: already holds a run; add --resume to go on with it, or name another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    return out


def find_interrupted(scenario: Scenario, out: Path | None) -> Run:
    """The run to go on with: `--out`, else the newest of this scenario. Raises UsageError when there is none."""
    if out is not None:
        run = _read_or_refuse(out)
        if run.info["scenario_sha256"] != scenario_sha256(scenario):
            raise UsageError(f"--resume --out {out}: that run is of another scenario ({run.info['scenario_name']})")
        return run
    wanted = scenario_sha256(scenario)
    for folder in sorted(DEFAULT_ROOT.glob(f"*-{scenario.name}-*"), reverse=True):
        try:
            run = read_run(folder)
        except RunFolderError:
            continue
        if run.info.get("scenario_sha256") == wanted:
            return run
    raise UsageError(f"--resume: no run of this scenario under {DEFAULT_ROOT}/; start one without --resume")


def _read_or_refuse(folder: Path) -> Run:
    try:
        run = read_run(folder)
    except RunFolderError as error:
        raise UsageError(f"--resume --out {folder}: {error}") from None
    absent = [key for key in NEEDED if key not in run.info]
    if absent:
        raise UsageError(f"--resume --out {folder}: its {INFO} lacks {', '.join(absent)}; start without --resume")
    return run
