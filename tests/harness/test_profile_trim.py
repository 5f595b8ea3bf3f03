"""A trace cut to its last decode steps: what stays is what those steps launched, and it is read as before."""

import gzip
import json

import pytest

from harness.errors import ProfileError
from harness.profile.torch_trace import read_torch
from harness.profile.trim import trim
from profile_gpu import eager_trace, kernel_list, replay_trace


def events_of(path) -> list[dict]:
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def test_the_last_step_stays_with_the_kernels_that_ran_after_it(tmp_path):
    path = tmp_path / "e.json.gz"
    eager_trace(path)
    before = read_torch(path, expects_gpu=True)
    assert trim(path, 1)
    after = read_torch(path, expects_gpu=True)
    assert len(before.kernels) == 3 * len(kernel_list()) and after.kernels == before.kernels[-len(kernel_list()) :]
    assert max(kernel.start_ns for kernel in after.kernels) > max(span.end_ns for span in after.spans)
    assert [span.name for span in after.spans].count("decode step") == 1 and after.missing_kernels is None


def test_a_replay_keeps_all_kernels_of_its_graph(tmp_path):
    path = tmp_path / "g.json.gz"
    replay_trace(path)
    assert trim(path, 2)
    assert len(read_torch(path, expects_gpu=True).kernels) == 2 * len(kernel_list())


def test_arrows_and_names_of_threads_stay_and_the_machine_goes(tmp_path):
    path = tmp_path / "e.json.gz"
    eager_trace(path)
    events = events_of(path)
    last = events[-1]["args"]["correlation"]
    extra = [
        {"ph": "M", "name": "thread_name", "tid": 1},
        {"ph": "s", "id": 1, "ts": 0},
        {"ph": "f", "id": last, "ts": 9},
    ]
    data = {"traceName": "/home/someone/e.json", "host_name": "h", "deviceProperties": [1], "traceEvents": [*extra, *events]}
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    assert trim(path, 1)
    kept = json.loads(gzip.decompress(path.read_bytes()))
    assert [event["ph"] for event in kept["traceEvents"] if event["ph"] != "X"] == ["M", "f"]
    assert kept["traceName"] == "e.json.gz" and kept["deviceProperties"] == [1] and "host_name" not in kept


def test_a_trace_without_decode_steps_is_left_as_it_is(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "mul", "ts": 1, "dur": 1}]}')
    before = path.read_bytes()
    assert not trim(path, 1) and path.read_bytes() == before


def test_damaged_trace_is_named(tmp_path):
    (tmp_path / "x.json.gz").write_bytes(b"no")
    with pytest.raises(ProfileError, match="x.json.gz: cannot be read"):
        trim(tmp_path / "x.json.gz", 1)
