"""Verdicts from telemetry: each rule fires on a replay that shows its fault, and stays silent on a steady GPU."""

import pytest

from harness.telemetry.judge import judge_host, judge_telemetry
from harness.telemetry.sample import Sample
from harness.telemetry.sampler import Telemetry
from harness.telemetry.summary import Window
from harness.verdict import add_reasons, verdict
from simulated_nvml import steady
from test_telemetry import TENTH_NS, replay

WINDOW = Window(0, 30 * TENTH_NS, 100)


def judged(*gpus) -> dict[str, bool]:
    """code -> invalidates"""
    return {r.code: r.invalidates for r in judge_telemetry(replay(*gpus), WINDOW, on_gpu=True)}


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
