"""GPU columns of a stored profile, made again from the traces that its folder keeps."""

import json

import pytest

from commands import run_harness
from harness.errors import UsageError
from harness.profile.again import profiles_again
from harness.profile.block import profile_block
from profile_gpu import gpu_result

PLAIN = {"schema_version": 1, "cell_id": "plain", "repeat": 0, "status": "ok", "profile": None}


@pytest.fixture
def stored(tmp_path):
    """A folder with one record whose GPU columns an earlier version counted otherwise."""
    result = gpu_result(tmp_path)
    block = profile_block(tmp_path, result, None, None, on_gpu=True)
    block["files"] = result["passes"][2]["samples"]
    old = json.loads(json.dumps(block))
    for row in old["rows"]:
        row["gpu_ns"] = None if row["gpu_ns"] is None else 3 * row["gpu_ns"]
    for row in old["layers"]:
        row["gpu_us"] = None if row["gpu_us"] is None else 3 * row["gpu_us"]
    write(tmp_path, [PLAIN, PLAIN | {"cell_id": "profiled", "profile": old}])
    return tmp_path, block


def write(folder, records):
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_gpu_columns_are_those_of_the_traces_and_the_rest_stays(stored):
    folder, right = stored
    plain, profiled = profiles_again(folder)
    found = profiled["profile"]
    assert plain == PLAIN
    assert found["rows"] == json.loads(json.dumps(right["rows"])) and found["layers"] == json.loads(json.dumps(right["layers"]))
    assert found["overhead"] == right["overhead"] and found["sources"] == right["sources"]
    assert "decode step taken again from the kept traces" in found["notes"][-1]


def test_doing_it_twice_changes_nothing(stored):
    folder, _ = stored
    once = profiles_again(folder)
    write(folder, once)
    assert profiles_again(folder) == once


def test_without_the_traces_it_says_what_is_missing(stored):
    folder, _ = stored
    (folder / "samples" / "e.json.gz").unlink()
    with pytest.raises(UsageError, match="traces in samples/; give a scenario"):
        profiles_again(folder)


def test_the_command_refuses_a_folder_without_a_profile(tmp_path):
    write(tmp_path, [PLAIN])
    done = run_harness("profile", str(tmp_path))
    assert done.returncode == 2 and "no record has a profile" in done.stderr
