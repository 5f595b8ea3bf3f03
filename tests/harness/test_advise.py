"""The advisor: what it chooses and why, when it flips, and what it refuses."""

import json

import pytest
from click.testing import CliRunner

from commands import run_harness
from harness.advise import advise, question
from harness.advise.options import MEETS_ORDER
from harness.advise.show import sentence, to_json
from harness.cli.advise import advise as command
from harness.errors import UsageError
from harness.project.load import steady_state


def asked(gpu, *, rate=1.0, slo="ttft:500,tpot:50", **more):
    lengths = {"prompt": 1024, "output": 256} | more
    return advise(question(gpu, "mixtral-8x7b", rate=rate, slo=slo, **lengths))


def test_where_bf16_fits_and_meets_it_is_not_talked_out_of():
    advice = asked("H200", rate=1.0)
    assert advice.choice.projection.candidate.weights == "bf16"
    assert any("costs +0.80 % perplexity (pocket-mixtral)" in line for line in advice.flips)


def test_where_bf16_does_not_fit_the_smallest_loss_that_meets_is_taken():
    choice = asked("H100", rate=8.0, slo="ttft:300,tpot:25").choice
    assert choice.projection.candidate.kernel == "cuda-fragments" and choice.meets == "yes"
    cheaper = asked("H100", rate=1.0, slo="ttft:300,tpot:25").choice
    assert cheaper.projection.candidate.weights == "fp8"


def test_on_an_unmeasured_architecture_speeds_are_ranges_and_unvalidated():
    advice = asked("RTX 5090", rate=1.0)
    text = sentence(advice)
    assert "unvalidated" in text and "sm_120 was never measured" in text and " to " in text
    assert any("was never measured" in line for line in advice.flips)
    for option in to_json(advice)["options"]:
        assert option["speed"]["kind"] == "projected, unvalidated"


def test_the_order_is_meets_then_loss():
    for gpu in ("H200", "RTX 5090", "B200"):
        options = asked(gpu, rate=2.0).options
        places = [MEETS_ORDER.index(option.meets) for option in options]
        assert places == sorted(places)
        sure = [option.quality.change_pct for option in options if option.meets == "yes" and option.quality.change_pct]
        assert sure == sorted(sure)


def test_the_rate_at_which_the_answer_flips_is_where_the_limit_breaks():
    advice = asked("H100", rate=8.0, slo="tpot:25")
    choice = advice.choice
    error = 1.2  # the limit is taken with the projection's error, at most this factor
    most = choice.fit.max_batch
    below = steady_state(choice.projection.step, choice.sure_rate * 0.98, 1024, 256, max_batch=most)
    above = steady_state(choice.projection.step, choice.sure_rate * 1.02, 1024, 256, max_batch=most)
    assert 25 / error < below.tpot_ms < above.tpot_ms <= 25
    assert f"above {choice.sure_rate:.3g} requests/s" in advice.flips[0]


def test_a_limit_on_quality_is_kept():
    advice = asked("RTX 5090", rate=1.0, max_loss_pct=1.0)
    assert advice.choice.quality.change_pct <= 1.0
    refused = [option for option in advice.options if option.quality.precision == "nvfp4-search-a4"]
    assert refused and all("asked for at most 1 %" in option.reason for option in refused)


def test_nothing_meets_is_an_answer_with_what_comes_closest():
    advice = asked("A100", slo="ttft:1")
    assert advice.choice is None and "Nothing meets" in sentence(advice) and "Closest" in sentence(advice)
    assert "do not hold at any rate" in advice.flips[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--gpu", "H300"), ("--gpu 'H300': not a known GPU", "RTX 5090"), id="unknown-gpu"),
        pytest.param(("--gpu", "RTX 4090"), ("fits in no precision", "experts", "choose a larger GPU"), id="does-not-fit"),
        pytest.param(("--gpu", "H100", "--rate", "nan"), ("--rate: must be a number above 0",), id="nan"),
        pytest.param(("--gpu", "H100", "--rate", "-1"), ("--rate", "got -1.0"), id="negative"),
        pytest.param(("--gpu", "H100", "--slo", "p99:3"), ("--slo", "ttft, tpot", "got 'p99:3'"), id="unknown-limit"),
        pytest.param(("--gpu", "H100", "--slo", "ttft:inf"), ("ttft must be a number of milliseconds",), id="infinite"),
        pytest.param(("--gpu", "H100", "--max-loss", "nan"), ("--max-loss",), id="nan-loss"),
        pytest.param(("--gpu", "H100", "--model", "gpt-5"), ("--model 'gpt-5': not a known model", "mixtral-8x7b"), id="model"),
        pytest.param(("--gpu", "H100", "--prompt", "40000"), ("context of 32768 tokens",), id="too-long"),
        pytest.param(("--gpu", "H100", "--output", "1"), ("--output: must be at least 2",), id="one-token"),
        pytest.param(("--gpu", "H100", "--model", "pocket-mixtral", "--prompt", "64"), ("no projection",), id="pocket"),
    ],
)
def test_bad_input_says_option_rule_value_and_what_is_allowed(arguments, words):
    done = CliRunner().invoke(command, arguments)
    assert isinstance(done.exception, UsageError) and done.exception.exit_code == 2
    for word in words:
        assert word in str(done.exception)


def test_the_command_as_a_user_runs_it():
    arguments = ("--gpu", "RTX 5090", "--model", "mixtral-8x7b", "--rate", "4", "--slo", "ttft:500,tpot:50")
    done = run_harness("advise", *arguments)
    assert done.returncode == 0 and "The answer flips:" in done.stdout and "PROJECTED" in done.stdout
    data = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert data["question"]["rate_per_s"] == 4.0 and data["options"][data["choice"]]["memory"]["fits"]
    assert data["options"][0]["quality"]["model"] == "pocket-mixtral"
    assert any("quality-pocket-mixtral" in line for line in data["sources"])


def test_sources_name_records_and_data_sheets():
    lines = " ".join(asked("H100").sources)
    assert "results/baselines/kernels" in lines and "data sheet" in lines


def test_question_is_checked_once():
    with pytest.raises(UsageError, match="--rate"):
        question("H100", "mixtral-8x7b", prompt=1, output=2, rate=float("inf"), slo="")
