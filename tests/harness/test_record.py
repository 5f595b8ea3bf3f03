"""Records: appended whole or not at all, torn lines tolerated only at the end, the last of a (cell, repeat) counts."""

import errno
import gzip
import json
import os

import pytest

from harness.errors import RunFolderError, StorageError
from harness.record import RunWriter, read_run

INFO = {"schema_version": 1, "run_id": "r", "scenario_name": "t"}


def record(cell: str, repeat: int = 0, status: str = "ok") -> dict:
    return {"cell_id": cell, "repeat": repeat, "status": status}


@pytest.fixture
def writer(tmp_path):
    return RunWriter.create(tmp_path / "run", INFO)


def test_what_is_written_is_read(writer):
    writer.append(record("a"))
    writer.append(record("a", 1))
    run = read_run(writer.folder)
    assert run.run_id == "r" and run.finished() == {("a", 0), ("a", 1)}


def test_later_record_of_the_same_repeat_counts(writer):
    writer.append(record("a", status="failed"))
    assert read_run(writer.folder).finished() == set()
    writer.append(record("a"))
    assert read_run(writer.folder).finished() == {("a", 0)}
    assert len(read_run(writer.folder).records) == 1


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_torn_last_line_is_left_out_and_cut_on_resume(writer, cut):
    writer.append(record("a"))
    writer.append(record("b"))
    path = writer.folder / "records.jsonl"
    os.truncate(path, path.stat().st_size - cut)
    assert read_run(writer.folder).finished() == {("a", 0)}
    RunWriter.reopen(writer.folder).append(record("c"))
    assert read_run(writer.folder).finished() == {("a", 0), ("c", 0)}


def pack(folder, data: bytes | None = None) -> None:
    path = folder / "records.jsonl"
    (folder / "records.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()) if data is None else data)
    path.unlink()


def test_packed_records_are_read_and_unpacked_by_whoever_goes_on(writer):
    writer.append(record("a"))
    pack(writer.folder)
    assert read_run(writer.folder).finished() == {("a", 0)}
    RunWriter.reopen(writer.folder).append(record("b"))
    assert read_run(writer.folder).finished() == {("a", 0), ("b", 0)}
    assert not (writer.folder / "records.jsonl.gz").exists()


def test_packed_records_that_are_replaced_leave_no_second_truth(writer):
    writer.append(record("a"))
    pack(writer.folder)
    RunWriter(writer.folder).replace_records([record("c")])
    assert read_run(writer.folder).finished() == {("c", 0)} and not (writer.folder / "records.jsonl.gz").exists()


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(b"{}")[:-6]], ids=["foreign", "cut"])
def test_damaged_packed_records_are_named(writer, data):
    writer.append(record("a"))
    pack(writer.folder, data)
    with pytest.raises(RunFolderError, match=r"records.jsonl.gz: cannot be unpacked"):
        read_run(writer.folder)


def test_damage_elsewhere_is_an_error_with_its_line(writer):
    writer.append(record("a"))
    path = writer.folder / "records.jsonl"
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(RunFolderError, match=r"records.jsonl:1: not valid JSON"):
        read_run(writer.folder)


def test_disk_full_keeps_what_was_recorded(writer, monkeypatch):
    writer.append(record("a"))
    real_write, calls = os.write, []

    def write_half_then_fail(descriptor, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real_write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write_half_then_fail)
    with pytest.raises(StorageError, match="No space left on device.*what was recorded before is kept"):
        writer.append(record("b"))
    monkeypatch.undo()
    assert read_run(writer.folder).finished() == {("a", 0)}
    assert (writer.folder / "records.jsonl").read_bytes().endswith(b"\n")


def test_sample_that_cannot_be_stored_leaves_no_part(writer):
    def fail(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError):
        writer.store("samples/x.parquet", fail)
    assert list((writer.folder / "samples").iterdir()) == []


def test_nan_cannot_enter_a_record(writer):
    with pytest.raises(ValueError, match="Out of range float"):
        writer.append(record("a") | {"value": float("nan")})


def test_other_schema_version_is_refused_by_name(writer):
    (writer.folder / "run.json").write_text(json.dumps(INFO | {"schema_version": 99}))
    with pytest.raises(RunFolderError, match="schema version 99 cannot be read here"):
        read_run(writer.folder)


def test_folder_that_is_not_a_run(tmp_path):
    with pytest.raises(RunFolderError, match="not a run's folder"):
        read_run(tmp_path)
