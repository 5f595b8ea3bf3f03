"""Read a run's folder, finished or cut off.

A torn last line (the machine stopped while writing) is left out; damage anywhere else is an error, since a record
would be missing without a word. Of several records of one cell and repeat the last counts. A finished run's records.jsonl may
be packed to records.jsonl.gz, a tenth of its size, as the larger ones below results/baselines are.
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RunFolderError
from harness.record.write import INFO, PACKED, RECORDS

READABLE_VERSIONS = (1,)
REQUIRED = ("cell_id", "repeat", "status")


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder as data."""

    folder: Path
    info: dict
    records: list[dict]

    @property
    def run_id(self) -> str:
        return self.info["run_id"]

    def finished(self) -> set[tuple[str, int]]:
        """(cell id, repeat) of every record that ended well: what `--resume` does not run again."""
        return {(record["cell_id"], record["repeat"]) for record in self.records if record["status"] == "ok"}


def read_run(folder: Path | str) -> Run:
    """Read run.json and records.jsonl; raises RunFolderError naming the file, the line and what is wrong."""
    folder = Path(folder)
    info = _read_info(folder / INFO)
    latest = {(record["cell_id"], record["repeat"]): record for record in read_records(folder / RECORDS)}
    return Run(folder, info, list(latest.values()))


def _read_info(path: Path) -> dict:
    if not path.is_file():
        raise RunFolderError(f"{path.parent}: not a run's folder (no {INFO}); give one from results/runs/")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path}: not valid JSON ({error})") from None
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version not in READABLE_VERSIONS:
        readable = ", ".join(map(str, READABLE_VERSIONS))
        raise RunFolderError(f"{path}: schema version {version!r} cannot be read here (readable: {readable})")
    return info


def records_bytes(path: Path) -> bytes:
    """What records.jsonl holds, packed or not; nothing where there is neither."""
    packed = path.with_name(PACKED)
    if path.exists() or not packed.exists():
        return path.read_bytes() if path.exists() else b""
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise RunFolderError(f"{packed}: cannot be unpacked ({error}); pack records.jsonl again with gzip") from None


def read_records(path: Path) -> list[dict]:
    """Every whole line of records.jsonl in order, those that a later one replaces too."""
    lines = records_bytes(path).split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RunFolderError(f"{path}:{number}: not valid JSON ({error})") from None
        absent = [key for key in REQUIRED if not isinstance(record, dict) or key not in record]
        if absent:
            raise RunFolderError(f"{path}:{number}: not a record, lacks {', '.join(absent)}")
        version = record.get("schema_version", READABLE_VERSIONS[0])
        if version not in READABLE_VERSIONS:
            readable = ", ".join(map(str, READABLE_VERSIONS))
            raise RunFolderError(f"{path}:{number}: schema version {version!r} cannot be read here (readable: {readable})")
        records.append(record)
    return records
