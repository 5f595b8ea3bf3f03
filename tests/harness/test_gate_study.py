"""The committed study of the gate's error rates says what the documentation claims, and fits the gate of today."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from harness.gate.interleave import LOOKS

STUDY = Path("results/baselines/gate-study")
SOURCES = [pytest.param("aa", id="variation-of-today"), pytest.param("aa_30", id="variation-of-a-busier-machine")]


@pytest.fixture(scope="module")
def study() -> dict:
    return json.loads((STUDY / "simulation.json").read_text())


def simulated(study: dict, source: str, slowdown_pct: float) -> dict:
    (row,) = [row for row in study["simulated"] if (row["source"], row["true_slowdown_pct"]) == (source, slowdown_pct)]
    return row


@pytest.mark.parametrize("source", SOURCES)
def test_false_alarms_are_at_most_one_percent(study, source):
    row = simulated(study, source, 0.0)
    assert row["num"] == 2000 and row["states"].get("regression", 0) <= 20


@pytest.mark.parametrize("source", SOURCES)
def test_five_percent_slower_is_caught_or_open_and_never_called_the_same(study, source):
    row = simulated(study, source, 5.0)
    assert row["num"] == 2000 and row["states"].get("no regression", 0) == 0
    assert sum(verdicts.get("same", 0) for verdicts in row["verdicts"].values()) == 0


def test_no_equal_code_raised_an_alarm_and_no_slower_code_was_called_the_same(study):
    real = study["real"]
    for kind in ("aa", "aa_30"):
        assert len(real[kind]) == 20 and not [run for run in real[kind] if run["state"] == "regression"]
    assert not [run for kind in ("ab", "ab_30", "ab_early") for run in real[kind] if run["state"] == "no regression"]


def test_all_of_twenty_runs_of_ten_percent_slower_code_were_caught(study):
    assert [run["state"] for run in study["real"]["ab"]] == ["regression"] * 20


def test_real_runs_were_looked_at_as_the_gate_looks(study):
    for runs in study["real"].values():
        assert all(min(LOOKS) <= run["repeats"] <= max(LOOKS) for run in runs)


@pytest.mark.parametrize("kind", ["aa", "ab"])
def test_runs_of_the_gate_as_it_is_went_on_until_decided_or_to_the_last_look(study, kind):
    """And judged again from their repeats, they say what the gate said."""
    taken = json.loads((STUDY / f"{kind}.json").read_text())["runs"]
    for run, again in zip(taken, study["real"][kind], strict=True):
        assert again["repeats"] == len(run["candidate"]["median_step_cpu_ms"])
        assert again["repeats"] == max(LOOKS) or again["state"] != "inconclusive"
        assert again["verdicts"] == run["verdicts"]


def test_the_page_is_written_from_the_counts(study):
    page = (STUDY / "study.md").read_text()
    for row in study["simulated"]:
        blocks = f"{row['num_blocks']}, {row['num_real_runs']}"
        assert f"| {blocks} | {row['true_slowdown_pct']:g} % | {row['num']} |" in page


@pytest.mark.parametrize("source", SOURCES)
def test_the_documentation_says_the_simulated_rates(study, source):
    page = Path("docs/gates.md").read_text(encoding="utf-8")
    for slowdown_pct in (0.0, 5.0, 10.0):
        row = simulated(study, source, slowdown_pct)
        percent = 100 * row["states"].get("regression", 0) / row["num"]
        assert re.search(rf"\| {re.escape(f'{percent:.2f} %')} \[[^|]*\] of {row['num']}", page)


def test_the_documentation_counts_the_real_runs(study):
    page = Path("docs/gates.md").read_text(encoding="utf-8")
    for kind in ("aa", "aa_30"):
        found = Counter(run["state"] for run in study["real"][kind])
        assert f"| {found['regression']}, {found['inconclusive']}, {found['no regression']} of {found.total()}" in page
