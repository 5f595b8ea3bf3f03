"""From two runs to outcomes and an exit code: every kind of bad input is named and none is called passed."""

import math

import pytest

from gate_runs import HELDOUT, STEADY, heldout, record, records, repeats, timed, write_run
from harness.gate.decide import decide, with_policy
from harness.gate.words import headline
from harness.report.data import load
from harness.scenario.gates import GateSpec

NOISY = (1.0, 1.3, 0.8, 1.2, 0.85, 1.15, 0.75, 1.1, 0.9, 1.25)
EXTRA = {
    name: {"value": 1000.0, "unit": "bytes", "n": 1, "reason": None} for name in ("expert_codes_bytes", "expert_scales_bytes")
}


def result_of(tmp_path, old, new, spec=None):
    folders = write_run(tmp_path / "old", old), write_run(tmp_path / "new", new)
    return decide(*(load(folder) for folder in folders), spec or GateSpec())


def state_of(result, metric):
    return {outcome.metric: outcome.state for outcome in result.outcomes}[metric]


def test_equal_runs_pass(tmp_path):
    result = result_of(tmp_path, records(timed(), extra_metrics=EXTRA), records(timed(), extra_metrics=EXTRA))
    assert (result.state, result.exit_code) == ("passed", 0)
    assert headline(result) == "No regression in 5 gates"
    assert state_of(result, "expert_read_bytes_per_step") == state_of(result, "kernel_selection") == "passed"


@pytest.mark.parametrize("slower", [1.05, 1.10])
def test_slowdown_is_a_regression(tmp_path, slower):
    result = result_of(tmp_path, records(timed()), records(timed(slower)))
    assert (result.state, result.exit_code) == ("regression", 1)
    assert state_of(result, "output_throughput") == state_of(result, "median_itl_ms") == "regression"


def test_faster_passes_and_is_said(tmp_path):
    result = result_of(tmp_path, records(timed()), records(timed(0.8)))
    assert (result.state, result.exit_code) == ("better", 0)


@pytest.mark.parametrize(("policy", "code"), [("fail", 3), ("warn", 0)])
def test_inconclusive_is_never_called_no_regression(tmp_path, policy, code):
    result = result_of(tmp_path, records(timed(shape=NOISY)), records(timed(shape=NOISY[::-1])))
    result = with_policy(result, policy)
    assert (result.state, result.exit_code) == ("inconclusive", code)
    assert "no regression" not in headline(result).lower() and "Inconclusive" in headline(result)


def test_shift_of_an_unsteady_machine_is_not_taken_for_a_regression(tmp_path):
    # 20 % apart, every repeat of one above every repeat of the other, and each side spreads by 10 %: a busy hour.
    wide = tuple(1 + 0.02 * (i - 4.5) for i in range(10))
    result = result_of(tmp_path, records(timed(shape=wide)), records(timed(1.2, shape=wide)))
    assert state_of(result, "median_itl_ms") == "inconclusive"
    assert "--ab" in next(o.detail for o in result.outcomes if o.metric == "median_itl_ms")


def without(values, metric):
    return {name: numbers for name, numbers in values.items() if name != metric}


@pytest.mark.parametrize(
    ("old", "new", "metric", "state", "word"),
    [
        pytest.param(
            timed(), without(timed(), "median_itl_ms"), "median_itl_ms", "invalid", "not in the record", id="absent-now"
        ),
        pytest.param(
            without(timed(), "median_itl_ms"),
            timed(),
            "median_itl_ms",
            "not comparable",
            "not in the record",
            id="absent-before",
        ),
        pytest.param(
            timed(),
            timed() | {"median_itl_ms": [math.nan] * 10},
            "median_itl_ms",
            "invalid",
            "nan, which is not a finite",
            id="nan",
        ),
        pytest.param(
            timed(),
            timed() | {"median_itl_ms": [5.0] * 10},
            "median_itl_ms",
            "invalid",
            "without any variation",
            id="zero-variance",
        ),
        pytest.param(
            timed(),
            timed() | {"median_itl_ms": [None] * 10},
            "median_itl_ms",
            "invalid",
            "the clock stood still",
            id="null-with-reason",
        ),
        pytest.param(
            {name: [numbers[0]] for name, numbers in timed().items()},
            {name: [numbers[0] * 1.5] for name, numbers in timed().items()},
            "median_itl_ms",
            "inconclusive",
            "at least 5 repeats",
            id="one-sample",
        ),
    ],
)
def test_bad_numbers_are_named(tmp_path, old, new, metric, state, word):
    result = result_of(tmp_path, records(old), records(new))
    outcome = next(outcome for outcome in result.outcomes if outcome.metric == metric)
    assert outcome.state == state and word in outcome.detail
    assert result.exit_code in (3, 4)


def test_different_scenarios_are_named_and_not_comparable(tmp_path):
    longer = {**records(timed())[0]["workload"], "prompt_tokens": 64}
    result = result_of(tmp_path, records(timed()), records(timed(), workload=longer))
    assert (result.state, result.exit_code) == ("not comparable", 4)
    assert "workload.prompt_tokens is 32 in old and 64 in new" in result.outcomes[0].detail


def test_other_weights_are_not_comparable(tmp_path):
    result = result_of(tmp_path, records(timed()), records(timed(), weights_sha256="cd" * 32))
    assert result.exit_code == 4 and "the weights are other ones" in result.outcomes[0].detail


def test_a_cell_that_was_not_measured_any_more_fails(tmp_path):
    result = result_of(tmp_path, [*records(timed()), heldout(20.0)], records(timed()))
    assert result.exit_code == 3 and "did not measure it" in result.outcomes[-1].detail


def test_a_new_cell_has_no_baseline(tmp_path):
    result = result_of(tmp_path, records(timed()), [*records(timed()), heldout(20.0)])
    assert result.exit_code == 4 and "no such cell" in result.outcomes[-1].detail


def test_a_planned_cell_without_a_record_fails(tmp_path):
    rows = records(timed())
    plan = [{"cell_id": row["cell_id"], "workload": row["workload"]} for row in rows[:1]]
    plan.append({"cell_id": "pocket-mixtral/native/bf16-a16/heldout/h100", "workload": HELDOUT})
    result = decide(*(load(write_run(tmp_path / name, rows, planned=plan)) for name in ("old", "new")), GateSpec())
    assert result.exit_code == 3 and "without any record" in result.outcomes[-1].detail


@pytest.mark.parametrize(
    ("side", "state", "code", "word"),
    [
        pytest.param("old", "invalid", 3, "the candidate does not: no kernel", id="the-candidate-drops-it"),
        pytest.param("new", "not comparable", 4, "the baseline does not plan it: no kernel", id="the-baseline-drops-it"),
    ],
)
def test_a_cell_that_only_one_side_plans_is_named(tmp_path, side, state, code, word):
    rows = records(timed())
    cell = {"cell_id": rows[0]["cell_id"], "workload": rows[0]["workload"]}
    extra = {"cell_id": "pocket-mixtral/native/mxfp4-search-a16/single/h100", "workload": rows[0]["workload"]}
    plans = {name: {"cells": [cell], "dropped": [extra | {"reason": "no kernel"}]} for name in ("old", "new")}
    plans[side] = {"cells": [cell, extra], "dropped": []}
    runs = [load(write_run(tmp_path / name, rows, plan=plans[name])) for name in ("old", "new")]
    result = decide(*runs, GateSpec())
    assert (result.outcomes[-1].state, result.exit_code) == (state, code) and word in result.outcomes[-1].detail


def test_failed_and_invalid_repeats_are_left_out_and_named(tmp_path):
    rows = records(timed())
    rows[2] = record({}, repeat=2, status="failed")
    result = result_of(tmp_path, records(timed()), rows)
    assert result.exit_code == 0  # nine good repeats are left
    all_failed = result_of(tmp_path, records(timed()), [record({}, repeat=i, status="failed") for i in range(5)])
    assert all_failed.exit_code == 3 and "worker ended by SIGKILL" in all_failed.outcomes[0].detail
    invalid = result_of(tmp_path, records(timed()), records(timed(), state="INVALID"))
    assert invalid.exit_code == 3 and "INVALID" in invalid.outcomes[0].detail


def test_torn_last_record_is_named(tmp_path):
    old, new = write_run(tmp_path / "old", records(timed())), write_run(tmp_path / "new", records(timed()))
    content = (new / "records.jsonl").read_text()
    (new / "records.jsonl").write_text(content[:-40])
    result = decide(load(old), load(new), GateSpec())
    assert any("cut off" in note for note in result.notes) and any("not finished" in note for note in result.notes)


def test_an_empty_run_is_nothing_measured(tmp_path):
    result = result_of(tmp_path, [], [])
    assert (result.state, result.exit_code) == ("invalid", 3) and "Nothing was measured" in headline(result)


def test_a_regression_is_one_whatever_else_is_open(tmp_path):
    new = [*records(timed(1.2)), heldout(20.0)]
    assert result_of(tmp_path, records(timed()), new).exit_code == 1


def test_perplexity_gate(tmp_path):
    for now, code in ((20.0, 0), (20.01, 0), (20.03, 1), (19.0, 0)):  # 0.1 % of 20 is 0.02
        result = result_of(tmp_path / str(now), [heldout(20.0)], [heldout(now)])
        assert (now, result.exit_code) == (now, code)


def test_memory_and_selection_need_no_repeats(tmp_path):
    old = [record({"weight_bytes": 100.0, "output_throughput": 1.0})]
    spec = GateSpec.model_validate({"primary": [], "exact": [{"metric": "weight_bytes"}, {"metric": "kernel_selection"}]})
    assert result_of(tmp_path / "1", old, old, spec).exit_code == 0
    larger = [record({"weight_bytes": 101.0, "output_throughput": 1.0})]
    assert state_of(result_of(tmp_path / "2", old, larger, spec), "weight_bytes") == "regression"
    slow = [record({"weight_bytes": 100.0, "output_throughput": 1.0}, chosen="reference")]
    result = result_of(tmp_path / "3", old, slow, spec)
    assert result.exit_code == 1 and "triton-grouped before, reference now" in result.outcomes[-1].detail


def test_more_bytes_of_experts_read_is_a_regression(tmp_path):
    busy = records(timed(), extra_metrics=EXTRA)
    for row in busy:
        row["experts"] = row["experts"] | {"layers": [layer | {"active_per_step": 3.0} for layer in row["experts"]["layers"]]}
    result = result_of(tmp_path, records(timed(), extra_metrics=EXTRA), busy)
    assert state_of(result, "expert_read_bytes_per_step") == "regression"


def test_a_figure_that_should_be_exact_and_varies_is_named(tmp_path):
    varied = records(timed() | {"weight_bytes": [100.0 + i for i in range(10)]})
    result = result_of(tmp_path, records(timed() | {"weight_bytes": [100.0] * 10}), varied)
    assert state_of(result, "weight_bytes") == "invalid"


def test_steady_shape_varies():
    assert len(set(STEADY)) == len(repeats(1.0)) == 10
