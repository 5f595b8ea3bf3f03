"""Exports of nsys and of torch as traces: a real 2022.4 export, the documented differences of others, and damaged files."""

import gzip
import json
import sqlite3

import pytest

from harness.errors import ProfileError
from harness.profile.nsys_sqlite import read_sqlite
from harness.profile.table import tabulate
from harness.profile.torch_trace import read_torch
from profile_traces import fixture


def test_real_export_of_2022_4(tmp_path):
    seen = read_sqlite(fixture(tmp_path), domain="fp4moe")
    found = tabulate(seen, None)
    whole, layers = found.row("decode step").host, found.row("decode step", "layer").host
    assert layers.count == 5 * whole.count > 0, "pocket-mixtral has five layers"
    assert sum(row.host.self_ns for row in found.rows if row.path[0] == "decode step") == whole.total_ns
    # The reach: 95 % of a decode step lies in named ranges, nsys's own cost included.
    assert found.attributed("decode step")["host"] > 0.95
    assert {span.payload.get("payload") for span in seen.spans if span.name == "attention"} == set(range(5))
    assert "nothing was launched, or CUDA was not traced" in seen.missing_kernels


def test_other_domains_are_left_out(tmp_path):
    assert read_sqlite(fixture(tmp_path), domain="other").spans == ()


STRINGS = {1: "decode step", 2: "cudaLaunchKernel_v7000", 3: "gemm", 4: "cuGraphLaunch"}
NVTX = "start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId INTEGER, domainId INTEGER, globalTid INTEGER, {more}"


def export(path, *, more="int64Value INTEGER", kernel_columns="shortName INTEGER", calls="RUNTIME", call=2, num=4, rows=4):
    """An export by hand: a step by textId, `num` launches, `rows` kernels of them."""
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE StringIds (id INTEGER, value TEXT)")
    base.executemany("INSERT INTO StringIds VALUES (?, ?)", STRINGS.items())
    base.execute(f"CREATE TABLE NVTX_EVENTS ({NVTX.format(more=more)})")
    base.execute("INSERT INTO NVTX_EVENTS VALUES (0, NULL, 75, 'fp4moe', NULL, 3, 1, NULL)")
    base.execute("INSERT INTO NVTX_EVENTS VALUES (100, 900, 59, NULL, 1, 3, 1, 8)")
    base.execute("INSERT INTO NVTX_EVENTS VALUES (950, NULL, 59, NULL, 1, 3, 1, 8)")  # still open at the end
    table = f"CUPTI_ACTIVITY_KIND_{calls}"
    base.execute(f"CREATE TABLE {table} (start INTEGER, end INTEGER, correlationId INTEGER, nameId INTEGER)")
    base.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", [(200 + i, 201 + i, i, call) for i in range(num)])
    kernel = "CUPTI_ACTIVITY_KIND_KERNEL"
    base.execute(
        f"CREATE TABLE {kernel} (start INTEGER, end INTEGER, streamId INTEGER, correlationId INTEGER, {kernel_columns})"
    )
    base.executemany(f"INSERT INTO {kernel} VALUES (?, ?, 7, ?, 3)", [(1000 + 10 * i, 1005 + 10 * i, i) for i in range(rows)])
    base.commit()
    base.close()
    return path


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="2022.4"),
        pytest.param({"kernel_columns": "demangledName INTEGER"}, id="demangled-names-only"),
        pytest.param({"more": "uint64Value INTEGER"}, id="unsigned-payloads"),
        pytest.param({"calls": "DRIVER"}, id="driver-calls-in-a-table-of-their-own"),
    ],
)
def test_versions_differ_in_columns_and_tables(tmp_path, changes):
    seen = read_sqlite(export(tmp_path / "x.sqlite", **changes), domain="fp4moe")
    assert [(span.name, span.payload) for span in seen.spans] == [("decode step", {"payload": 8})]
    row = tabulate(seen, seen).row("decode step").to_json()
    assert (row["kernels"], row["gpu_ns"], row["gap_ns"]) == (4, 20, 15) and seen.kernels[0].name == "gemm"


def test_one_kernel_row_of_many_launches_is_noticed(tmp_path):
    seen = read_sqlite(export(tmp_path / "x.sqlite", num=60, rows=1))
    assert "1 of 60 launches" in seen.missing_kernels


def test_kernels_of_a_graph_launch_share_it(tmp_path):
    seen = read_sqlite(export(tmp_path / "x.sqlite", call=4))
    assert {kernel.graph_launch for kernel in seen.kernels} == {0, 1, 2, 3}


def test_missing_file_truncated_and_foreign_are_told_apart(tmp_path):
    with pytest.raises(ProfileError, match="no such file"):
        read_sqlite(tmp_path / "none.sqlite")
    cut = tmp_path / "cut.sqlite"
    cut.write_bytes(fixture(tmp_path).read_bytes()[:5000])
    with pytest.raises(ProfileError, match="cut.sqlite: "):
        read_sqlite(cut)
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, by any means, however long it may be" * 30)
    with pytest.raises(ProfileError, match="cannot be read as an nsys export"):
        read_sqlite(text)
    foreign = tmp_path / "foreign.sqlite"
    sqlite3.connect(foreign).execute("CREATE TABLE songs (name TEXT)").connection.commit()
    with pytest.raises(ProfileError, match="is not an nsys export .tables found: songs"):
        read_sqlite(foreign)


def event(cat, name, ts, dur, **args) -> dict:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, "args": args}


def chrome(path, *events):
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": list(events)}).encode()))
    return path


def test_torch_trace_links_kernels_by_correlation(tmp_path):
    path = chrome(
        tmp_path / "t.json.gz",
        event("user_annotation", "decode step", 10, 100),
        event("user_annotation", "ProfilerStep#2", 0, 500),
        event("cuda_runtime", "cudaLaunchKernel", 20, 3, correlation=5),
        event("cuda_driver", "cuLaunchKernelEx", 30, 3, correlation=6),
        event("kernel", "gemm", 400, 7, correlation=5, stream=7),
        event("kernel", "sum", 410, 2, correlation=6, stream=7),
        event("gpu_user_annotation", "decode step", 400, 12),
    )
    seen = read_torch(path, expects_gpu=True)
    row = tabulate(seen, seen).row("decode step").to_json()
    assert (row["kernels"], row["gpu_ns"], row["gap_ns"], row["total_ns"]) == (2, 9000, 3000, 100_000)


def test_torch_trace_of_a_cpu_has_no_gpu_columns_and_says_so(tmp_path):
    seen = read_torch(chrome(tmp_path / "t.json.gz", event("user_annotation", "decode step", 10, 100)), expects_gpu=False)
    assert "no GPU took part" in seen.missing_kernels


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(gzip.compress(b'{"traceEvents": [')[:-4], id="cut-archive"),
        pytest.param(gzip.compress(b'{"events": []}'), id="foreign"),
        pytest.param(b"not gzip", id="not-an-archive"),
    ],
)
def test_damaged_torch_trace_is_refused_by_name(tmp_path, content):
    path = tmp_path / "t.json.gz"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match="t.json.gz: cannot be read"):
        read_torch(path, expects_gpu=True)
