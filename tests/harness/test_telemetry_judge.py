"""Verdicts from telemetry: each rule fires on a replay that shows its fault, and stays silent on a steady GPU."""

import re
from pathlib import Path

import pytest

from harness.collect.latency import StepTimes
from harness.telemetry import judge
from harness.telemetry.judge import CODES, judge_host, judge_telemetry
from harness.telemetry.sample import Sample
from harness.telemetry.sampler import Telemetry
from harness.telemetry.summary import Window
from harness.verdict import ONLY_WARN, add_reasons, verdict, without
from simulated_nvml import steady
from test_telemetry import TENTH_NS, replay

WINDOW = Window(0, 30 * TENTH_NS, 100)


def judged(*gpus) -> dict[str, bool]:
    """code -> invalidates"""
    return {r.code: r.invalidates for r in judge_telemetry(replay(*gpus), WINDOW, on_gpu=True)}


def like_steps(times_ms: list[float], *, phase: str = "decode", start_s: float = 0.0, size: int = 8) -> list[StepTimes]:
    """Steps without gaps from `start_s` on."""
    ends = [start_s * 1e9 + sum(times_ms[: n + 1]) * 1e6 for n in range(len(times_ms))]
    return [
        StepTimes(n, phase, int(end - ms * 1e6), int(end), size, size)
        for n, (end, ms) in enumerate(zip(ends, times_ms, strict=True))
    ]


def changed(key: str, values: list) -> list[dict]:
    return [row | {key: value} for row, value in zip(steady(len(values)), values, strict=True)]


def test_steady_gpu_earns_nothing():
    assert judged(steady(30)) == {}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        pytest.param(1960, {}, id="one-percent-is-jitter"),
        pytest.param(1860, {"clock_drop": False}, id="six-percent-warns"),
        pytest.param(1400, {"clock_drop": True}, id="thirty-percent-invalidates"),
    ],
)
def test_falling_clock(last, expected):
    assert judged(changed("sm_clock_mhz", [1980] * 15 + [last] * 15)) == expected


HALF_BY_HALF = [1980] * 15 + [1650] * 15  # falls by 16.7 % after 1.5 of 3 s
TO_DECODE = [1980] * 12 + [1650] * 18  # the same fall, as prompts give way to decode after 1.2 s


@pytest.mark.parametrize(
    ("clocks", "steps", "invalidates", "words"),
    [
        pytest.param(HALF_BY_HALF, [], True, "no like steps", id="no-steps-to-tell"),
        pytest.param(HALF_BY_HALF, like_steps([200.0] * 15), True, "no like steps", id="too-few-steps"),
        pytest.param(HALF_BY_HALF, like_steps([50.0] * 60), False, "+0.0 % (n = 60)", id="steps-as-before"),
        pytest.param(HALF_BY_HALF, like_steps([48.0] * 30 + [51.8] * 30), False, "not set most", id="less-than-half"),
        pytest.param(HALF_BY_HALF, like_steps([47.0] * 30 + [51.3] * 30), True, "slowed with it", id="more-than-half"),
        pytest.param(HALF_BY_HALF, like_steps([46.0] * 30 + [55.2] * 30), True, "+20.0 %", id="in-proportion"),
        pytest.param(HALF_BY_HALF, like_steps([52.0] * 30 + [45.0] * 30), False, "-13.5 %", id="steps-became-faster"),
        pytest.param(
            TO_DECODE, like_steps([28.0] * 30 + [32.0] * 30, start_s=1.2), False, "no more than 3 %", id="fall-before-decode"
        ),
        pytest.param(
            [1980] * 15 + [1880] * 6 + [1760] * 9,
            like_steps([24.0] * 30 + [25.0] * 30, start_s=1.5),
            False,
            "by less than 5 %",
            id="slowed-as-longer-contexts-do",
        ),
        pytest.param(
            HALF_BY_HALF, like_steps([280.0] * 5 + [320.0] * 5, phase="prefill"), True, "prompt steps", id="prompts-alone"
        ),
        pytest.param(
            [1980] * 10 + [1650] * 20,
            [
                *like_steps([200.0] * 5 + [250.0] * 3, phase="prefill"),
                *like_steps([20.0] * 50, start_s=1.9),
            ],
            True,
            "so its prompt steps slowed with it",
            id="prompts-slowed-and-decode-did-not",
        ),
        pytest.param([1980] * 15 + [1860] * 15, like_steps([46.0] * 30 + [55.0] * 30), False, "", id="six-percent-only-warns"),
    ],
)  # fmt: skip
def test_a_fallen_clock_must_slow_the_steps(clocks, steps, invalidates, words):
    telemetry = replay(changed("sm_clock_mhz", clocks))
    (reason,) = judge_telemetry(telemetry, WINDOW, on_gpu=True, steps=steps)
    assert (reason.code, reason.invalidates) == ("clock_drop", invalidates) and words in reason.message


def test_steps_of_other_sizes_are_not_compared():
    """A batch that drains: the last steps are faster since they are smaller, and say nothing of the clock."""
    steps = [*like_steps([46.0] * 20 + [55.2] * 20), *like_steps([20.0] * 30, start_s=2.1, size=2)]
    (reason,) = judge_telemetry(replay(changed("sm_clock_mhz", HALF_BY_HALF)), WINDOW, on_gpu=True, steps=steps)
    assert reason.invalidates and "n = 40" in reason.message


def test_each_gpu_is_judged_by_its_own_clock():
    steps = like_steps([46.0] * 30 + [55.2] * 30)
    fallen = [replay(steady(30), changed("sm_clock_mhz", HALF_BY_HALF)), replay(steady(30), steady(30))]
    assert [[r.invalidates for r in judge_telemetry(t, WINDOW, on_gpu=True, steps=steps)] for t in fallen] == [[True], []]


def test_idle_gpu_may_lower_its_clock():
    rows = [r | {"utilization_pct": 0} for r in changed("sm_clock_mhz", [1980] * 15 + [300] * 15)]
    assert judged(rows) == {}


def test_thermal_throttling_invalidates_when_it_lasts():
    assert judged(changed("throttle", [0] * 20 + [0x40] * 10)) == {"thermal_throttle": True}
    assert judged(changed("throttle", [0] * 29 + [0x20])) == {"thermal_throttle": False}


def test_power_cap_warns_with_its_share():
    (reason,) = judge_telemetry(replay(changed("throttle", [0x4] * 15 + [0] * 15)), WINDOW, on_gpu=True)
    assert reason.code == "power_throttle" and "15 of 30" in reason.message and not reason.invalidates


def test_idle_bit_is_no_throttling():
    assert judged(changed("throttle", [0x1] * 30)) == {}


def test_stranger_invalidates_with_its_size():
    rows = steady(30, processes=[(1, 20 * 10**9), (2, 3 * 10**9)])
    (reason,) = judge_telemetry(replay(rows), WINDOW, on_gpu=True)
    assert reason.code == "other_process" and reason.invalidates and "3.00 GB" in reason.message


def test_the_faulty_one_of_two_gpus_is_named():
    (reason,) = judge_telemetry(replay(steady(30), changed("sm_clock_mhz", [1980] * 15 + [990] * 15)), WINDOW, on_gpu=True)
    assert reason.message.startswith("gpu1:")


def test_gpu_run_without_readings_warns():
    (reason,) = judge_telemetry(Telemetry(), WINDOW, on_gpu=True)
    assert reason.code == "no_telemetry"
    assert judge_telemetry(Telemetry(), WINDOW, on_gpu=False) == []


def test_starved_worker_is_named():
    shares = Telemetry([Sample(i * TENTH_NS, "cpu", utilization_pct=20.0) for i in range(30)])
    (reason,) = judge_host(shares, WINDOW, threads=1, num_cores=2)
    assert "0.40 of 1 core" in reason.message
    full = Telemetry([Sample(i * TENTH_NS, "cpu", utilization_pct=49.0) for i in range(30)])
    assert judge_host(full, WINDOW, threads=1, num_cores=2) == []


def test_reasons_only_make_a_verdict_worse():
    block = verdict([])
    warned = add_reasons(block, judge_telemetry(Telemetry(), WINDOW, on_gpu=True))
    assert (block["state"], warned["state"]) == ("VALID", "WARN")
    assert add_reasons({"state": "INVALID", "reasons": []}, [])["state"] == "INVALID"


@pytest.mark.parametrize(
    ("codes", "state", "left", "expected"),
    [
        pytest.param([], "VALID", [], "VALID", id="nothing-to-remove"),
        pytest.param(["clock_drop"], "INVALID", [], "VALID", id="the-only-reason"),
        pytest.param(["slowing", "clock_drop"], "INVALID", ["slowing"], "WARN", id="what-is-left-only-warns"),
        pytest.param(
            ["failed_requests", "clock_drop"], "INVALID", ["failed_requests"], "INVALID", id="what-is-left-may-invalidate"
        ),
        pytest.param(["failed_requests", "clock_drop"], "WARN", ["failed_requests"], "WARN", id="nothing-invalidated"),
        pytest.param(["wrong_output"], "INVALID", ["wrong_output"], "INVALID", id="not-of-telemetry"),
    ],
)
def test_reasons_of_telemetry_are_removed_and_others_keep_their_state(codes, state, left, expected):
    block = {"state": state, "reasons": [{"code": code, "message": "m"} for code in codes]}
    found = without(block, CODES)
    assert (found["state"], [reason["code"] for reason in found["reasons"]]) == (expected, left)


def test_every_code_that_telemetry_gives_is_listed():
    source = Path(judge.__file__).read_text(encoding="utf-8")
    given = {*re.findall(r'Reason\(\s*"(\w+)"', source), *re.findall(r'\((?:THERMAL|POWER), "(\w+)"', source)}
    assert given == set(CODES) and not given & set(ONLY_WARN)
