"""Verdicts: each from numbers for which the right answer is plain, bad numbers included."""

import math

import numpy as np
import pytest

from gate_runs import repeats
from harness.compare.judge import judge_all
from harness.compare.rules import Primary, Rules, make_rules, parse_metric
from harness.compare.values import Values
from harness.errors import UsageError

ITL, RATE = Primary("median_itl_ms", 3.0), Primary("output_throughput", 3.0)
RULES = Rules((ITL, RATE))
NOISY = (1.0, 1.2, 0.85, 1.1, 0.9, 1.15, 0.8, 1.05, 0.95, 1.0)


def values(numbers, unit="ms", problem=None) -> Values:
    return Values(dict(enumerate(numbers)), unit, problem)


def judged(a, b, primary=ITL, pairing="none", rules=RULES):
    return judge_all([(primary, values(a), values(b))], rules, pairing=pairing)[0]


@pytest.mark.parametrize(
    ("factor", "primary", "verdict"),
    [
        pytest.param(1.10, ITL, "worse", id="slower"),
        pytest.param(0.90, ITL, "better", id="faster"),
        pytest.param(1.10, RATE, "better", id="more-tokens"),
        pytest.param(0.90, RATE, "worse", id="fewer-tokens"),
        pytest.param(1.00, ITL, "same", id="equal"),
        pytest.param(1.01, ITL, "same", id="slower-by-less-than-matters"),
        pytest.param(1.025, ITL, "inconclusive", id="within-the-resolution-of-the-limit"),
    ],
)
@pytest.mark.parametrize("pairing", ["none", "repeats"])
def test_quiet_machine(factor, primary, verdict, pairing):
    found = judged(repeats(10), repeats(10 * factor), primary, pairing)
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(factor)


def test_noise_is_inconclusive_and_never_same():
    found = judged(repeats(10, NOISY), repeats(10, NOISY[::-1]))
    assert found.verdict == "inconclusive" and "neither a difference nor its absence" in found.reason


def test_interleaving_sees_through_load_that_both_sides_share():
    load = np.array([1, 1.1, 2, 2.2, 2.1, 1, 1.05, 3, 3.1, 1.2])
    own = np.array([1, 1.002, 0.999, 1.001, 0.998, 1.0, 1.003, 0.997, 1.001, 1.0])
    assert judged(10 * load, 11 * load * own).verdict == "inconclusive"
    assert judged(10 * load, 11 * load * own, pairing="repeats").verdict == "worse"
    assert judged(10 * load, 10 * load * own, pairing="repeats").verdict == "same"


def test_five_repeats_can_be_judged_with_three_metrics_and_four_cannot():
    sides = [(p, values(repeats(10)[:5]), values(repeats(12)[:5])) for p in (ITL, RATE, Primary("median_ttft_ms", 5))]
    assert {j.verdict for j in judge_all(sides, RULES, pairing="none")} == {"worse", "better"}
    few = [(p, values(repeats(10)[:4]), values(repeats(12)[:4])) for p in (ITL,)]
    (found,) = judge_all(few, RULES, pairing="none")
    assert found.verdict == "inconclusive" and "at least 5 repeats" in found.reason


@pytest.mark.parametrize(
    ("a", "b", "side", "word"),
    [
        pytest.param(values([10.0] * 6), values(repeats(10)), "a", "without any variation", id="zero-variance-in-baseline"),
        pytest.param(values(repeats(10)), values([10.0] * 6), "b", "without any variation", id="zero-variance"),
        pytest.param(values([], problem="repeat 2 holds nan"), values(repeats(1)), "a", "nan", id="nan-in-baseline"),
        pytest.param(values(repeats(1)), values([], problem="absent"), "b", "absent", id="absent-on-one-side"),
        pytest.param(values(repeats(1)), values(repeats(1), unit="s"), "b", "is in s", id="other-unit"),
    ],
)
def test_numbers_that_cannot_be_used_are_named_with_their_side(a, b, side, word):
    (found,) = judge_all([(ITL, a, b)], RULES, pairing="none")
    assert (found.verdict, found.side_at_fault) == ("not judged", side) and word in found.reason


def test_one_sample_a_side_is_inconclusive():
    found = judged([10.0], [20.0])
    assert found.verdict == "inconclusive" and found.ratio == 2.0 and found.low is None


def test_correction_takes_every_primary_metric_into_account():
    one = judged(repeats(10)[:5], repeats(12)[:5])
    three = judge_all([(p, values(repeats(10)[:5]), values(repeats(12)[:5])) for p in (ITL, RATE, ITL)], RULES, pairing="none")
    assert three[0].p_holm == pytest.approx(3 * one.p_holm)


def test_pairs_are_matched_by_repeat_where_one_side_lost_some():
    a, b = values(repeats(10)), values(repeats(12))
    del a.by_repeat[3], b.by_repeat[7]
    (found,) = judge_all([(ITL, a, b)], RULES, pairing="repeats")
    assert "8 pairs" in found.test and found.verdict == "worse"


@pytest.mark.parametrize(
    "text",
    ["median_ttft_ms=0", "median_ttft_ms=x", "nonsense=3", "perplexity=1", "num_scored_tokens=1", "median_ttft_ms=nan"],
)
def test_a_metric_that_cannot_be_primary_is_refused(text):
    with pytest.raises(UsageError):
        make_rules([parse_metric(text)])


def test_more_than_three_primary_metrics_are_refused():
    with pytest.raises(UsageError, match="at most 3"):
        make_rules([Primary(name, 3) for name in ("median_itl_ms", "median_ttft_ms", "mean_itl_ms", "mean_ttft_ms")])


def test_slowdown_reads_the_same_in_times_and_rates():
    time, rate = judged(repeats(10), repeats(11)), judged(repeats(110), repeats(100), RATE)
    assert time.slowdown == pytest.approx(rate.slowdown) == pytest.approx(1.1)
    assert math.isclose(time.ratio * rate.ratio, 1)
