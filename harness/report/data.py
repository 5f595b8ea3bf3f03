"""Run folders as the report reads them.

In: the path of a run folder. Out: LoadedRun, `harness.record.read_run` with the few fields that the report
asks for. It does not interpret a record: that is cells.py.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """One run folder: run.json as `info`, the last record of each (cell, repeat), samples below `path`."""

    path: Path
    info: dict
    records: tuple[dict, ...]

    @property
    def run_id(self) -> str:
        return str(self.info.get("run_id") or self.path.name)

    @property
    def scenario_name(self) -> str:
        return str(self.info.get("scenario_name") or "unnamed scenario")

    @property
    def description(self) -> str:
        return str((self.info.get("scenario") or {}).get("description") or "")

    @property
    def plan(self) -> dict:
        return self.info.get("plan") or {}

    @property
    def provenance(self) -> dict:
        return self.info.get("provenance") or {}


def load(path: Path | str) -> LoadedRun:
    """Read one run folder; raises RunFolderError naming the file and what is wrong with it."""
    from harness.record import read_run

    run = read_run(path)
    return LoadedRun(run.folder, run.info, tuple(run.records))
