"""Stored baselines: by machine, with a reason, never one of another machine."""

import json

import pytest

from gate_runs import HOST, record, records, timed, write_run
from harness.errors import NothingMeasuredError, RunFolderError, UsageError
from harness.gate.fingerprint import fingerprint
from harness.gate.store import BaselineError, find_baseline, require_same_machine, update_baseline
from harness.report.data import load

OTHER = HOST | {"host": "elsewhere", "cpu": HOST["cpu"] | {"num_cores": 64}}


def test_update_keeps_the_reason_and_what_it_replaced(tmp_path):
    first, second = (load(write_run(tmp_path / name, records(timed()))) for name in ("first", "second"))
    folder = update_baseline(first, tmp_path / "store", "first one")
    update_baseline(second, tmp_path / "store", "faster sort")
    content = json.loads((folder / "baseline.json").read_text())
    assert [line["reason"] for line in content["updates"]] == ["first one", "faster sort"]
    assert content["updates"][1]["replaced_run_id"] == "first"
    assert content["machine"]["cores"] == "2" and folder.parent.name == fingerprint(first).short
    assert find_baseline(second, tmp_path / "store").run_id == "second"


def test_a_reason_is_required(tmp_path):
    run = load(write_run(tmp_path / "run", records(timed())))
    with pytest.raises(UsageError, match="--reason"):
        update_baseline(run, tmp_path / "store", "  ")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        pytest.param([], "no record", id="empty"),
        pytest.param(records({name: v[:3] for name, v in timed().items()}), "3 repeats, needs 5", id="few-repeats"),
        pytest.param([*records(timed()), record({}, repeat=10, status="failed")], "failed", id="failed-repeat"),
        pytest.param(records(timed(), state="INVALID"), "INVALID", id="invalid"),
    ],
)
def test_an_unfit_run_is_refused(tmp_path, rows, word):
    with pytest.raises(NothingMeasuredError, match=word):
        update_baseline(load(write_run(tmp_path / "run", rows)), tmp_path / "store", "why")


def test_missing_baseline_names_the_machine_and_the_others(tmp_path):
    run = load(write_run(tmp_path / "run", records(timed())))
    with pytest.raises(BaselineError, match="There is none of any machine") as none:
        find_baseline(run, tmp_path)
    assert none.value.exit_code == 4
    update_baseline(load(write_run(tmp_path / "far", records(timed()), host=OTHER)), tmp_path / "store", "far away")
    with pytest.raises(BaselineError, match="other machines, which must not be used here(.|\n)*elsewhere"):
        find_baseline(run, tmp_path / "store")


def test_a_path_that_is_not_there_is_named(tmp_path):
    run = load(write_run(tmp_path / "run", records(timed())))
    with pytest.raises(BaselineError, match="nowhere: no such baseline"):
        find_baseline(run, tmp_path / "nowhere")


def test_another_machine_is_refused_fact_by_fact(tmp_path):
    here, far = (load(write_run(tmp_path / n, records(timed()), host=h)) for n, h in (("here", HOST), ("far", OTHER)))
    with pytest.raises(BaselineError, match="cores: 64 in the baseline, 2 now") as refused:
        require_same_machine(far, here)
    assert refused.value.exit_code == 4
    require_same_machine(here, here)


def test_software_is_not_part_of_the_machine(tmp_path):
    newer = HOST | {"libraries": {"torch": "3.0"}}
    runs = [load(write_run(tmp_path / n, records(timed()), host=h)) for n, h in (("a", HOST), ("b", newer))]
    require_same_machine(*runs)


def test_other_schema_version_is_refused_by_name(tmp_path):
    folder = write_run(tmp_path / "run", records(timed()), schema_version=7)
    with pytest.raises(RunFolderError, match="schema version 7 cannot be read here") as refused:
        load(folder)
    assert refused.value.exit_code == 4


def test_damaged_history_is_refused(tmp_path):
    run = load(write_run(tmp_path / "run", records(timed())))
    folder = update_baseline(run, tmp_path / "store", "one")
    (folder / "baseline.json").write_text("{")
    with pytest.raises(BaselineError, match="cannot be read"):
        update_baseline(run, tmp_path / "store", "two")
