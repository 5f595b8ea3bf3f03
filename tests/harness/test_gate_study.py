"""The committed study of the gate's error rates says what the documentation claims, and fits the gate of today."""

import json
from pathlib import Path

import pytest

from harness.gate.interleave import LOOKS

STUDY = Path("results/baselines/gate-study")


@pytest.fixture(scope="module")
def study() -> dict:
    return json.loads((STUDY / "simulation.json").read_text())


def simulated(study: dict, slowdown_pct: float) -> dict:
    return next(row for row in study["simulated"] if row["true_slowdown_pct"] == slowdown_pct)


def test_false_alarms_are_at_most_one_percent(study):
    row = simulated(study, 0.0)
    assert row["num"] == 2000 and row["states"].get("regression", 0) <= 20


def test_five_percent_slower_is_caught_or_open_and_never_called_the_same(study):
    row = simulated(study, 5.0)
    assert row["num"] == 2000 and row["states"].get("no regression", 0) == 0
    assert sum(verdicts.get("same", 0) for verdicts in row["verdicts"].values()) == 0


def test_no_equal_code_raised_an_alarm_and_no_slower_code_was_called_the_same(study):
    real = study["real"]
    assert len(real["aa"]) == 20 and not [run for run in real["aa"] if run["state"] == "regression"]
    assert not [run for kind in ("ab", "ab_30", "ab_early") for run in real[kind] if run["state"] == "no regression"]


def test_real_runs_were_looked_at_as_the_gate_looks(study):
    for runs in study["real"].values():
        assert all(min(LOOKS) <= run["repeats"] <= max(LOOKS) for run in runs)


def test_the_page_is_written_from_the_counts(study):
    page = (STUDY / "study.md").read_text()
    for row in study["simulated"]:
        assert f"| {row['true_slowdown_pct']:g} % | {row['num']} |" in page
