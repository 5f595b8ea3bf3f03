"""`harness selfcheck`: rows with their limits, exit 3 when one is missed, JSON for machines."""

import json

import pytest
from click.testing import CliRunner

from harness.cli.selfcheck import selfcheck as command
from harness.client import selfcheck
from load_cases import needs_a_processor

SMALL = selfcheck.Sizes(streams=4, rounds=3, ttft_ms=10.0, itl_ms=2.0, capacity_streams=8, capacity_requests=200)
GOOD = selfcheck.CheckRow("x", 1.0, "ms", 3, "<= 5", True, "a thing")
MISSED = selfcheck.CheckRow("y", 9.0, "ms", 3, "<= 5", False, "another")


def test_error_is_the_client_s_time_less_the_server_s():
    rows = {row.name: row for row in selfcheck.accuracy(SMALL)}
    # A stamp is taken before the chunk is written, so the client's time of it cannot be earlier.
    assert rows["TTFT error, mean"].value > 0 and rows["TTFT error, mean"].n == 100
    assert rows["ITL error, mean"].n == 100 * 15 and rows["sending, mean"].limit is None


def test_capacity_counts_every_request():
    rows = {row.name: row for row in selfcheck.capacity(SMALL)}
    assert rows["requests"].n == 200 and rows["parsing"].n == 200 * 16 and rows["client CPU"].value > 0


@pytest.mark.parametrize(("rows", "code"), [([GOOD], 0), ([GOOD, MISSED], 3)], ids=["all-kept", "one-missed"])
def test_exit_code_and_table(monkeypatch, rows, code):
    monkeypatch.setattr(selfcheck, "selfcheck", lambda sizes, say: rows)
    done = CliRunner().invoke(command, [])
    assert done.exit_code == code and "a thing" in done.output and ("MISSED" in done.output) == (code == 3)


def test_json(monkeypatch):
    monkeypatch.setattr(selfcheck, "selfcheck", lambda sizes, say: [GOOD])
    done = CliRunner().invoke(command, ["--json", "--streams", "7"])
    assert json.loads(done.stdout)[0]["name"] == "x"


@pytest.mark.slow
def test_the_whole_check():
    needs_a_processor()
    rows = {row.name: row for row in selfcheck.selfcheck(selfcheck.Sizes(), lambda text: None)}
    for name in ("TTFT error, mean", "TTFT error, p99", "stall, longest TTFT", "stall, hit requests"):
        assert rows[name].passed, rows[name]
