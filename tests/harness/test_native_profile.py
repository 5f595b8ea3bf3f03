"""A profile of requests of unlike lengths: what a trace keeps of each, and the mean context of a decode step."""

import pytest

from harness.backends.native_profile import TRACE_OUTPUT_TOKENS, cut, mean_context
from harness.profile.command import shortened
from harness.scenario.schema import WorkloadSpec
from harness.workload.planned import PlannedRequest
from scenario_files import scenario_data


def planned(prompt: int, output: int) -> PlannedRequest:
    return PlannedRequest("r-0", [1] * prompt, output, None)


def test_a_trace_cuts_each_answer_to_its_own_length():
    short = cut([planned(4, 3), planned(4, 90), planned(4, 90)], 2)
    assert [request.output_tokens for request in short] == [3, TRACE_OUTPUT_TOKENS]


def test_mean_context_counts_a_request_once_a_token():
    assert mean_context([planned(512, 32), planned(512, 32)]) == 528.0
    # 90 steps with 100 + 45 behind them, 10 with 1000 + 5
    assert mean_context([planned(100, 90), planned(1000, 10)]) == pytest.approx((90 * 145 + 10 * 1005) / 100)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(64, 32, id="a-number-is-cut"),
        pytest.param(8, 8, id="a-short-number-stays"),
        pytest.param(
            {"kind": "uniform", "low": 2, "high": 20}, {"kind": "uniform", "low": 2, "high": 20}, id="short-draws-stay"
        ),
        pytest.param({"kind": "lognormal", "median": 40.0, "sigma": 1.0, "low": 2, "high": 500}, 32, id="long-draws-are-cut"),
    ],
)
def test_a_profile_takes_two_rounds_of_short_answers(output, expected):
    data = scenario_data()["workloads"][0] | {"output_tokens": output, "num_requests": 50}
    short = shortened(WorkloadSpec.model_validate(data | {"prompt_tokens": {"kind": "uniform", "low": 3, "high": 9}}), 32)
    assert short.num_requests == 2 and short.model_dump(mode="json")["output_tokens"] == expected


def test_a_trace_s_own_lengths_are_known_by_its_rows(tmp_path):
    rows = [f'{{"timestamp": {at}, "input_length": 20, "output_length": {3 + at}, "hash_ids": [1]}}' for at in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows) + "\n")
    source = {"kind": "mooncake", "path": str(tmp_path / "t.jsonl")}
    data = {"name": "t", "source": source, "num_requests": 9, "arrival": {"kind": "all_at_once"}}
    short = shortened(WorkloadSpec.model_validate(data), 32)
    assert short.num_requests == 3 and short.output_tokens is None
