"""Verdicts: each rule fires on what it names and stays silent otherwise."""

from harness.collect.latency import StepTimes
from harness.verdict import judge_check, judge_requests, verdict
from test_latency import MS, request


def steps(durations_ms: list[float], num_requests: int = 1) -> list[StepTimes]:
    return [
        StepTimes(i, "decode", i * 1000 * MS, int((i * 1000 + d) * MS), 1, num_requests) for i, d in enumerate(durations_ms)
    ]


def codes(requests, step_times) -> list[str]:
    return [reason["code"] for reason in verdict(judge_requests(requests, step_times))["reasons"]]


GOOD = [request("a", 0, 0, [10, 20])]


def test_clean_run_is_valid():
    assert verdict(judge_requests(GOOD, steps([5.0] * 60))) == {"state": "VALID", "reasons": []}


def test_short_output_invalidates():
    result = verdict(judge_requests([request("a", 0, 0, [10, 20], asked=3)], []))
    assert result["state"] == "INVALID" and result["reasons"][0]["code"] == "short_output"


def test_late_send_warns_with_the_worst_lag():
    result = verdict(judge_requests([request("a", 0, 90, [100, 110])], []))
    assert result["state"] == "WARN" and "90 ms" in result["reasons"][0]["message"]


def test_slow_beginning_warns():
    assert codes(GOOD, steps([9.0] * 20 + [5.0] * 40)) == ["warm_up"]


def test_filling_batch_is_not_warm_up():
    filling = steps([9.0] * 20, num_requests=1) + steps([5.0] * 40, num_requests=8)
    assert codes(GOOD, filling) == []


def test_few_steps_give_no_drift_verdict():
    assert codes(GOOD, steps([9.0] * 4 + [5.0] * 4)) == []


def test_wrong_output_has_no_speed():
    check = {"relative_error": 0.5, "bound": 0.01, "passed": False, "against": "a float64 loop"}
    assert verdict(judge_check(check))["state"] == "INVALID"
    assert judge_check(check | {"passed": True}) == []


def test_slow_drift_that_thirds_do_not_show_is_named():
    warming = [6.0 - 0.02 * i + 0.01 * (i % 3) for i in range(60)]
    assert codes(GOOD, steps(warming)) == ["warm_up"]
    assert codes(GOOD, steps(warming[::-1])) == ["slowing"]
