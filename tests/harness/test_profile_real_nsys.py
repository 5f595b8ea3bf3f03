"""The real nsys, where it is installed: `harness profile` under it, end to end, as a user runs it.

`tests/tools/install_nsys.sh` installs Debian's. Where there is none, the tests skip and say how it could be had.
"""

import json

import pytest

from commands import run_harness
from harness.profile.tools import find_nsys
from scenario_files import scenario_data, write_scenario

TOOL, PROBLEM = find_nsys()
needs_nsys = pytest.mark.skipif(TOOL is None, reason=f"nsys could not be used: {PROBLEM} (sh tests/tools/install_nsys.sh)")


@needs_nsys
@pytest.mark.slow
def test_pocket_mixtral_under_nsys(tmp_path):
    workload = scenario_data()["workloads"][0] | {"output_tokens": 12, "arrival": {"kind": "closed", "concurrency": 2}}
    data = scenario_data() | {"precisions": ["nvfp4"], "workloads": [workload], "quality": None}
    path = write_scenario(tmp_path, data)
    done = run_harness("profile", path, "--profiler", "nsys", "--out", tmp_path / "out", timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    block = json.loads(line)["profile"]
    rows = {tuple(row["path"]): row for row in block["rows"]}
    assert block["sources"]["host"] == "nsys" and block["tool"].startswith("nsys ")
    assert rows[("decode step", "layer")]["count"] == 5 * rows[("decode step",)]["count"]
    assert sum(row["self_ns"] for row in block["rows"] if row["path"][0] == "decode step") == rows[("decode step",)]["total_ns"]
    # 95 % on a quiet machine (test_profile_read.py holds a recorded one to it); preempted between ranges, less.
    assert block["attributed"]["decode step"]["host"] > 0.85
    assert {"nsys on", "under nsys, ranges off"} <= {one["what"] for one in block["overhead"]}
    assert (tmp_path / "out" / block["files"]["nsys"]).stat().st_size > 10_000
