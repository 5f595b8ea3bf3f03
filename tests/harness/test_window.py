"""The steady window: start-up and drain are cut by rule, and where there is no steady state it says so."""

import numpy as np
import pytest

from harness.collect.window import find_window, mser5


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, count)


@pytest.mark.parametrize("length", [20, 50, 100])
def test_a_transient_is_cut_about_where_it_ends(length):
    values = 100 + noise(400)
    values[:length] += np.linspace(80, 5, length)
    cut = mser5(values)
    # It ends 5 standard deviations above the level, so two batches of five of its tail may stay. On the level behind it
    # the statistic is flat, and noise may move its minimum on; a right one stays within a sixth of the series.
    assert length - 10 <= cut <= length + 400 / 6


def test_a_level_series_is_hardly_cut():
    cuts = [mser5(100 + noise(400, seed)) for seed in range(20)]
    # MSER is known to cut some of a level series now and then: half of the seeds must lose less than a tenth.
    assert None not in cuts and np.median(cuts) < 40


def test_a_series_that_falls_to_its_end_has_no_steady_state():
    assert mser5(np.linspace(400, 0, 400)) is None


def test_too_short_to_judge_is_not_cut():
    assert mser5(np.arange(15.0)) == 0


def window(ttft, *, concurrency=None, tpot=None):
    ttft = np.asarray(ttft, dtype=float)
    due = np.arange(len(ttft)) * 1000
    return find_window(due, ttft, np.full(len(ttft), 5.0) if tpot is None else tpot, concurrency=concurrency)


def test_closed_loop_loses_its_first_and_last_round():
    found = window(50 + noise(200), concurrency=16)
    assert found.start_ns >= 16_000 and found.end_ns == 183_000
    assert found.num_requests == (found.end_ns - found.start_ns) // 1000 + 1


def test_open_loop_keeps_its_ends():
    found = window(np.full(100, 50.0))
    assert (found.start_ns, found.end_ns, found.num_requests) == (0, 99_000, 100)


def test_order_of_answers_does_not_matter():
    ttft, due = 50 + noise(100), np.arange(100) * 1000
    ttft[:20] += 100
    mixed = np.random.default_rng(1).permutation(100)
    level = np.full(100, 5.0)
    straight = find_window(due, ttft, level, concurrency=None)
    assert find_window(due[mixed], ttft[mixed], level, concurrency=None) == straight and straight.start_ns > 0


def test_single_tokens_have_no_tpot_and_do_not_matter():
    tpot = np.full(100, 5.0)
    tpot[::3] = np.nan
    assert window(np.full(100, 50.0), tpot=tpot).num_requests == 100


@pytest.mark.parametrize(
    ("ttft", "concurrency", "reason"),
    [
        pytest.param(np.ones(19), None, "a steady window needs 20", id="few-open"),
        pytest.param(np.ones(40), 16, "needs 2 x 16 at its ends", id="few-closed"),
        pytest.param(np.linspace(400, 0, 400), None, "had not settled", id="never-steady"),
        pytest.param([], None, "0 answered requests", id="none"),
    ],
)
def test_no_window_says_why(ttft, concurrency, reason):
    found = window(ttft, concurrency=concurrency)
    assert found.start_ns is None and found.num_requests == 0 and reason in found.reason


def test_a_queue_that_grows_is_seen():
    found = window(50 + np.arange(300.0))
    assert found.start_ns is None and "grew from 100 ms in the first third to 300 ms" in found.growth


def test_a_queue_that_grows_late_is_seen_inside_the_window():
    late = window(np.concatenate([50 + noise(200), 50 + 3 * np.arange(100.0)]))
    assert late.reason is None and "grew from 50 ms" in late.growth
