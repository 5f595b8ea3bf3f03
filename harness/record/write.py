"""Write a run's folder: run.json once, records.jsonl a line a cell and repeat, appended and fsynced as each ends.

A line is complete or absent: when storing one fails midway (disk full), the file is cut back to its last whole line.
Samples are stored before the record that names them, under a temporary name first.
"""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

from harness.errors import StorageError

RECORDS = "records.jsonl"
PACKED = "records.jsonl.gz"
"""The same of a finished run, as baselines keep it."""
INFO = "run.json"
PART = ".part"


class RunWriter:
    """Appends to one run's folder; the only writer of it."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, info: dict) -> "RunWriter":
        """Make the folder and its run.json; raises StorageError when the folder cannot be made or is in use."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "samples").mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be created ({error.strerror}); choose another with --out") from None
        writer = cls(folder)
        writer.write_info(info)
        return writer

    @classmethod
    def reopen(cls, folder: Path) -> "RunWriter":
        """Continue an interrupted run: a torn last line is cut off first, half-written files are removed."""
        writer = cls(folder)
        writer.sweep()
        path, packed = folder / RECORDS, folder / PACKED
        if packed.exists() and not path.exists():
            writer.store(RECORDS, lambda part: part.write_bytes(gzip.decompress(packed.read_bytes())))
            packed.unlink()
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                os.truncate(path, len(whole))
        return writer

    def sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for part in [*self.folder.glob(f".*{PART}"), *self.folder.glob(f"samples/.*{PART}")]:
            part.unlink(missing_ok=True)

    def write_info(self, info: dict) -> None:
        """Replace run.json in one step."""
        text = json.dumps(info, indent=2, allow_nan=False) + "\n"
        self.store(INFO, lambda path: path.write_text(text, encoding="utf-8"))

    def append(self, record: dict) -> None:
        """Add one record and force it to disk; on failure nothing of it remains and StorageError says why."""
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        path = self.folder / RECORDS
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise storage_error(path, error) from None
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError as error:
                os.ftruncate(descriptor, before)
                raise storage_error(path, error) from None
        finally:
            os.close(descriptor)

    def replace_records(self, records: list[dict]) -> None:
        """Replace records.jsonl in one step; on failure the old one stays."""
        data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        self.store(RECORDS, write)
        (self.folder / PACKED).unlink(missing_ok=True)

    def store(self, name: str, write: Callable[[Path], object]) -> str:
        """Let `write(path)` produce the file `name` in the folder, complete or not at all. Gives `name` back."""
        path = self.folder / name
        temporary = path.with_name(f".{path.name}{PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise storage_error(path, error) from None
        return name


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def storage_error(path: Path, error: OSError) -> StorageError:
    """What to raise when `path` could not be written."""
    return StorageError(
        f"{path}: could not be stored ({error.strerror or error}); what was recorded before is kept. "
        "Free some space, then go on with --resume"
    )
