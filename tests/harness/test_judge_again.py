"""`harness report --judge-again`: verdicts of a stored run anew from its samples; what it keeps and what it refuses."""

import json

import pytest

from commands import assert_refused, run_harness
from harness.collect import tables
from harness.collect.latency import RequestTimes
from harness.errors import UsageError
from harness.frames import load_runs
from harness.record import read_run
from harness.run.judge_again import judge_again
from harness.telemetry import store
from report_fixture import A100, Spec, make_run
from test_telemetry import TENTH_NS, replay
from test_telemetry_judge import HALF_BY_HALF, changed, like_steps

SPEC = Spec(precisions=("bf16",), workloads=("batch8", "heldout"), target=A100, num_repeats=2, failing=())
OLD = {"code": "clock_drop", "message": "gpu0: the SM clock fell, by an older rule"}
SLOWING = {"code": "slowing", "message": "decode steps changed by +12 %"}
UNCHANGED, SLOWED = like_steps([50.0] * 60), like_steps([46.0] * 30 + [55.2] * 30)


@pytest.fixture
def run(tmp_path):
    """Repeat 0: the clock fell and the steps did not slow; repeat 1: they did. Both INVALID by an older rule; and a quality."""
    folder = make_run(tmp_path, SPEC)
    records = read_run(folder).records
    speeds = [record for record in records if record["workload"]["kind"] == "requests"]
    for record, steps in zip(speeds, (UNCHANGED, SLOWED), strict=True):
        record["workload"]["arrival"] = {"kind": "all_at_once"}
        record["verdict"] = {"state": "INVALID", "reasons": [OLD, SLOWING]}
        record["samples"] = {kind: f"samples/r{record['repeat']}-{kind}.parquet" for kind in ("requests", "steps", "telemetry")}
        request = RequestTimes("a", 0, 0, (TENTH_NS, 30 * TENTH_NS), 8, 2)
        tables.write_requests(folder / record["samples"]["requests"], [request])
        tables.write_steps(folder / record["samples"]["steps"], steps, {})
        store.write(folder / record["samples"]["telemetry"], replay(changed("sm_clock_mhz", HALF_BY_HALF)))
    write(folder, records)
    return folder


def write(folder, records) -> None:
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def speeds_of(folder) -> list[dict]:
    return [record for record in read_run(folder).records if record["workload"]["kind"] == "requests"]


def test_states_follow_the_samples_and_the_report_says_so(run):
    before = {(r["cell_id"], r["repeat"]): r for r in read_run(run).records}
    done = run_harness("report", run, "--judge-again", "--json")
    assert done.returncode == 0, done.stderr
    (change,) = json.loads(done.stdout)["judged_again"]
    assert (change["repeat"], change["before"], change["after"]) == (0, "INVALID", "WARN")
    first, second = speeds_of(run)
    assert "does not set most" in first["verdict"]["reasons"][-1]["message"]
    assert second["verdict"]["state"] == "INVALID" and "slowed with it" in second["verdict"]["reasons"][-1]["message"]
    for record in read_run(run).records:
        old = before[record["cell_id"], record["repeat"]]
        assert {k: v for k, v in record.items() if k != "verdict"} == {k: v for k, v in old.items() if k != "verdict"}
    for record in (first, second):
        assert record["verdict"]["reasons"][0] == SLOWING and OLD not in record["verdict"]["reasons"]
        assert record["verdict"]["judged_again"]["state_before"] == "INVALID"
    assert "judged again by harness" in (run / "report.md").read_text(encoding="utf-8")
    assert list(load_runs([run]).query("workload == 'batch8'").verdict) == ["WARN", "INVALID"]
    assert not list(run.glob(".*.part"))


def test_a_second_time_changes_nothing(run):
    assert run_harness("report", run, "--judge-again").returncode == 0
    once = (run / "records.jsonl").read_bytes()
    done = run_harness("report", run, "--judge-again")
    assert done.returncode == 0 and "->" not in done.stdout
    assert (run / "records.jsonl").read_bytes() == once


def test_failed_qualities_and_earlier_lines_stay(run):
    records = read_run(run).records
    failed = records[0] | {"status": "failed", "samples": {}, "verdict": {"state": "INVALID", "reasons": []}}
    write(run, [failed, *records])
    judged, changes = judge_again(run)
    assert judged[0] == failed and len(judged) == len(records) + 1 and len(changes) == 1
    assert [r for r in judged if r["workload"]["kind"] == "heldout"] == [
        r for r in records if r["workload"]["kind"] == "heldout"
    ]


def test_without_step_samples_the_fall_alone_invalidates(run):
    records = read_run(run).records
    del records[0]["samples"]["steps"]
    write(run, records)
    judged, changes = judge_again(run)
    assert changes == [] and "no like steps" in judged[0]["verdict"]["reasons"][-1]["message"]


@pytest.mark.parametrize("kind", ["requests", "telemetry", "steps"])
@pytest.mark.parametrize("damaged", [False, True], ids=["gone", "damaged"])
def test_missing_samples_name_the_record_and_nothing_is_written(run, kind, damaged):
    path = run / speeds_of(run)[1]["samples"][kind]
    path.write_bytes(b"PAR1") if damaged else path.unlink()
    before = (run / "records.jsonl").read_bytes()
    with pytest.raises(UsageError, match="batch8.*repeat 1: --judge-again"):
        judge_again(run)
    assert (run / "records.jsonl").read_bytes() == before


def test_a_folder_without_samples_ends_with_2_and_stays_as_it_is(tmp_path, run):
    other = make_run(tmp_path / "other", SPEC)  # its records name no telemetry
    before = [(folder / "records.jsonl").read_bytes() for folder in (run, other)]
    assert_refused(run_harness("report", run, other, "--judge-again"), "repeat 0", "the record names no telemetry samples")
    assert [(folder / "records.jsonl").read_bytes() for folder in (run, other)] == before
    assert not (run / "report.md").exists()


def test_a_run_that_has_not_ended_is_refused(run):
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(info | {"finished_utc": None}), encoding="utf-8")
    with pytest.raises(UsageError, match="has not ended"):
        judge_again(run)
