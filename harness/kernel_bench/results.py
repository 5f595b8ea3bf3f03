"""The folder that a bench leaves behind: bench.json, rows.jsonl, and what is rendered from them.

In: facts and rows. Out: files; and back again, so that tables and plots can be made later and elsewhere. A row is on disk
as soon as it is measured. No torch.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import RunFolderError, StorageError
from harness.kernel_bench.rows import SCHEMA_VERSION, validate

INFO, ROWS = "bench.json", "rows.jsonl"
KIND = "kernel-bench"


@dataclass(frozen=True, slots=True)
class Bench:
    """A folder as data."""

    folder: Path
    info: dict
    rows: list[dict]


def default_folder(model: str) -> Path:
    """results/runs/<UTC time>-kernels-<model>-<short id>."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results/runs") / f"{stamp}-kernels-{Path(model).name}-{secrets.token_hex(2)}"


class BenchWriter:
    """Appends to one folder."""

    def __init__(self, folder: Path, info: dict) -> None:
        self.folder = folder
        self.info = {"schema_version": SCHEMA_VERSION, "kind": KIND} | info
        if (folder / ROWS).exists():
            raise StorageError(f"{folder}: already holds a bench ({ROWS}); give another --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be created ({error.strerror}); choose another with --out") from None
        self.update()

    def update(self, **facts: object) -> None:
        """Add to bench.json and store it anew."""
        self.info |= facts
        write_text(self.folder / INFO, json.dumps(self.info, indent=2, allow_nan=False) + "\n")

    def append(self, row: dict) -> None:
        """One validated row, forced to disk."""
        line = json.dumps(validate(row), allow_nan=False) + "\n"
        try:
            with (self.folder / ROWS).open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self.folder / ROWS}: could not be stored ({error.strerror})") from None


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step; StorageError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise StorageError(f"{path}: could not be stored ({error.strerror})") from None


def read_bench(folder: Path | str) -> Bench:
    """RunFolderError naming file, line and rule; a torn last line is left out."""
    folder = Path(folder)
    path = folder / INFO
    if not path.is_file():
        raise RunFolderError(f"{folder}: not a bench's folder (no {INFO}); give what `harness kernels bench` wrote")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path}: not valid JSON ({error})") from None
    if info.get("kind") != KIND or info.get("schema_version") != SCHEMA_VERSION:
        found = f"kind {info.get('kind')!r}, schema version {info.get('schema_version')!r}"
        raise RunFolderError(f"{path}: must be of kind {KIND!r} and schema version {SCHEMA_VERSION} (got {found})")
    return Bench(folder, info, _read_rows(folder / ROWS))


def _read_rows(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    *lines, torn = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(validate(json.loads(line)))
        except ValueError as error:
            raise RunFolderError(f"{path}:{number}: {error}") from None
    return rows
