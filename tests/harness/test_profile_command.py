"""`harness profile` from the command line: the table on a CPU, each failure recorded with its exit code, nothing left running.

A tiny random model, so that a cell takes seconds.
"""

import gzip
import json

import psutil
import pytest
import yaml

from commands import assert_refused, environment, run_harness
from fake_nsys import write_fake
from harness.profile.roofline import points
from scenario_files import scenario_data, write_scenario
from tiny_checkpoint import write_tiny


@pytest.fixture
def scenario(tmp_path):
    return make_scenario(tmp_path)


def make_scenario(tmp_path):
    write_tiny(tmp_path / "mine")
    workload = scenario_data()["workloads"][0] | {"output_tokens": 8}
    data = scenario_data() | {"models": [{"name": "mine", "path": "mine"}], "precisions": ["nvfp4"], "workloads": [workload]}
    data |= {"quality": None, "limits": {"load_timeout_s": 20, "cell_timeout_s": 10}}
    return write_scenario(tmp_path, data)


def profile(scenario, *arguments, **variables):
    variables.setdefault("HARNESS_NSYS", str(scenario.parent / "no-nsys"))
    env = environment(**variables)
    return run_harness("profile", scenario, "--out", scenario.parent / "out", *arguments, env=env, cwd=scenario.parent)


def record_of(scenario) -> dict:
    (line,) = (scenario.parent / "out" / "records.jsonl").read_text().splitlines()
    return json.loads(line)


def processes_of(scenario) -> list[str]:
    folder, found = str(scenario.parent), []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in part for part in process.info["cmdline"] or ()):
            found.append(" ".join(process.info["cmdline"]))
    return found


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """One profile without nsys: (what the command printed, its record, its folder)."""
    path = make_scenario(tmp_path_factory.mktemp("profiled"))
    done = profile(path, "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout), record_of(path), path.parent / "out"


def test_without_nsys_the_same_table_comes_from_the_process_itself(profiled):
    printed, record, out = profiled
    block = record["profile"]
    assert printed["profiles"][0]["profile"]["rows"] == block["rows"]
    rows = {tuple(row["path"]): row for row in block["rows"]}
    step = rows[("decode step",)]
    own = [row["self_ns"] for row in block["rows"] if row["path"][0] == "decode step"]
    assert sum(own) == step["total_ns"], "parts and whole, within 2 %: here exactly"
    assert rows[("decode step", "layer", "experts", "gate-up GEMM")]["count"] == step["count"]
    assert block["sources"]["host"] == "ranges in process" and "no GPU took part" in block["sources"]["no_gpu"]
    assert {one["what"] for one in block["overhead"]} == {"off", "ranges on", "torch profiler"}
    assert block["cost"]["collector_ns"] > block["cost"]["off_ns"] > 0
    assert (out / block["files"]["trace"]).is_file() and "Where the time goes" in (out / "report.html").read_text()
    assert "| decode step |" in (out / "profile.md").read_text()


def test_roofline_has_the_experts_really_hit(profiled):
    facts, found = profiled[1]["profile"]["facts"], points(profiled[1]["profile"])
    experts = next(point for point in found if point.name == "experts")
    # One request decodes one token at a time: it hits exactly its top_k experts in each layer.
    assert facts["experts_hit"] == [2.0] and facts["decode_tokens"] == 1.0
    assert experts.num_bytes == 2 * facts["expert_bytes"] and 0 < experts.share < 1


def test_ranges_and_steps_agree_on_the_whole(profiled):
    """StepTimes has clock readings of its own around a step. The reach is 2 %; a step here takes 1 ms, so 50 us at least."""
    import pyarrow.parquet as parquet

    _, record, out = profiled
    steps = parquet.read_table(out / record["samples"]["steps"]).to_pylist()
    ranges = parquet.read_table(out / record["samples"]["ranges"]).to_pylist()
    by_steps = sum(row["end_ns"] - row["start_ns"] for row in steps)
    by_ranges = sum(row["end_ns"] - row["start_ns"] for row in ranges if row["name"] in ("decode step", "prefill"))
    assert by_steps * 0.98 - 50_000 * len(steps) <= by_ranges <= by_steps


@pytest.mark.slow
def test_drawn_lengths_fewer_passes_and_a_short_trace(scenario):
    data = yaml.safe_load(scenario.read_text())
    lengths = {
        "prompt_tokens": {"kind": "uniform", "low": 4, "high": 9},
        "output_tokens": {"kind": "uniform", "low": 3, "high": 8},
    }
    data["workloads"][0] |= lengths
    done = profile(write_scenario(scenario.parent, data), "--rounds", "1", "--keep-steps", "1", "--eager")
    assert done.returncode == 0, done.stderr[-2000:]
    record = record_of(scenario)
    trace = json.loads(gzip.decompress((scenario.parent / "out" / record["profile"]["files"]["trace"]).read_bytes()))
    assert [event["name"] for event in trace["traceEvents"]].count("decode step") == 1
    step = next(row for row in record["profile"]["rows"] if row["path"] == ["decode step"])
    (off,) = [one for one in record["profile"]["overhead"] if one["what"] == "off"]
    assert off["n"] == step["count"], "one pass of each kind, over the same steps"


@pytest.mark.slow
def test_nsys_that_hangs_costs_its_columns_and_not_the_cell(scenario):
    fake = write_fake(scenario.parent, "hang")
    done = profile(scenario, HARNESS_NSYS=str(fake))
    record = record_of(scenario)
    assert done.returncode == 0 and record["status"] == "ok", done.stderr[-2000:]
    (reason,) = [reason for reason in record["verdict"]["reasons"] if reason["code"] == "no_nsys"]
    assert record["verdict"]["state"] == "WARN" and "no end after 30 s" in reason["message"]
    assert not [line for line in processes_of(scenario) if "nsys-of-the-test" in line or "harness.profile.target" in line]


@pytest.mark.slow
def test_nsys_asked_for_by_name_and_killed_fails_the_cell(scenario):
    fake = write_fake(scenario.parent, "killed")
    done = profile(scenario, "--profiler", "nsys", HARNESS_NSYS=str(fake))
    record = record_of(scenario)
    assert done.returncode == 3 and record["status"] == "failed", "the only cell failed: nothing was measured"
    assert record["error"]["kind"] == "profiler" and "SIGKILL" in record["error"]["message"]
    assert "Traceback" not in done.stderr


def test_nsys_missing_and_asked_for_is_a_usage_error(scenario):
    assert_refused(profile(scenario, "--profiler", "nsys"), "is not here", "torch profiler", code=2)
    assert not (scenario.parent / "out").exists()


@pytest.mark.slow
def test_foreign_export_is_left_out_with_its_reason(scenario):
    """This one really runs the target, which then hears no NVTX tool and says so."""
    fake = write_fake(scenario.parent, "foreign")
    done = profile(scenario, HARNESS_NSYS=str(fake))
    assert done.returncode == 0, done.stderr[-2000:]
    assert any("NVTX" in note or "is not an nsys export" in note for note in record_of(scenario)["profile"]["notes"])


@pytest.mark.slow
def test_full_disk_under_nsys_ends_the_run(scenario):
    fake = write_fake(scenario.parent, "full")
    done = profile(scenario, HARNESS_NSYS=str(fake))
    assert done.returncode == 5 and "disk is full" in done.stderr and "Traceback" not in done.stderr


CRASH = "import os, signal, harness.backends.native as n\nn.NativeBackend.profile = lambda *a, **k: {how}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "killed", "SIGSEGV", id="crash"),
        pytest.param("os._exit(7)", "crashed", "exit code 7", id="exit"),
        pytest.param("__import__('time').sleep(600)", "hang", "no end after 30 s", id="hang"),
        pytest.param("1 / 0", "ZeroDivisionError", "division by zero", id="bug"),
    ],
)
def test_profiled_process_that_ends_badly_is_recorded(scenario, how, kind, words):
    """`sitecustomize` breaks the backend in the profiled process alone, where it is imported."""
    folder = scenario.parent / "site"
    folder.mkdir()
    hook = (
        "import sys\n"
        "if any('harness.profile.target' in a for a in getattr(sys, 'orig_argv', [])):\n"
        f"    exec({CRASH.format(how=how)!r})\n"
    )
    (folder / "sitecustomize.py").write_text(hook)
    done = profile(scenario, PYTHONPATH=f"{folder}:{environment()['PYTHONPATH']}")
    record = record_of(scenario)
    assert done.returncode == 3 and record["status"] == "failed", done.stderr[-2000:]
    assert record["error"]["kind"] == kind and words in record["error"]["message"]
    assert record["profile"] is None and "Traceback" not in done.stderr
    assert not [line for line in processes_of(scenario) if "harness.profile.target" in line]


@pytest.mark.slow
def test_quality_alone_has_nothing_to_profile(scenario):
    data = scenario_data() | {"workloads": [], "precisions": ["nvfp4"]}
    other = write_scenario(scenario.parent, data)
    assert_refused(profile(other), "no cell with requests", code=3)
