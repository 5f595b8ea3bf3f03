"""Prompts and lengths of a workload: traces, conversations, shared prefixes, warm-up, bounds."""

import json

import pytest

from harness.errors import ScenarioError
from harness.scenario.schema import WorkloadSpec
from harness.workload.bounds import bounds_of, judge_source, source_block
from harness.workload.requests import iter_requests, num_warmup, plan_requests, warmup_requests

TEXT = list(range(1000, 9000))
MOONCAKE = "scenarios/traces/mooncake-conversation-sample.jsonl"
AZURE = "scenarios/traces/azure-conv-2023-sample.csv"


def spec(**changes) -> WorkloadSpec:
    base = {"name": "w", "prompt_tokens": 10, "output_tokens": 4, "num_requests": 6}
    return WorkloadSpec.model_validate(base | {"arrival": {"kind": "closed", "concurrency": 2}} | changes)


def replay(path: str, kind: str, num: int = 50, **source) -> WorkloadSpec:
    changes = {"prompt_tokens": None, "output_tokens": None, "arrival": {"kind": "trace"}, "num_requests": num}
    return spec(source={"kind": kind, "path": path} | source, **changes)


def test_trace_gives_lengths_and_times():
    requests = plan_requests(replay(AZURE, "azure"), TEXT, 4096, 0)
    assert [(len(r.prompt_ids), r.output_tokens) for r in requests[:2]] == [(374, 44), (396, 109)]
    assert requests[0].scheduled_s == 0.0 and requests[1].scheduled_s == pytest.approx(4.314579, abs=1e-6)


def test_lengths_of_a_trace_at_other_times():
    workload = replay(AZURE, "azure").model_copy(update={"arrival": spec().arrival})
    assert {r.scheduled_s for r in plan_requests(workload, TEXT, 4096, 0)} == {None}


def test_mooncake_requests_share_the_blocks_that_they_name():
    requests = plan_requests(replay(MOONCAKE, "mooncake", num=4), TEXT, 4096, 0)
    first, second = requests[0].prompt_ids, requests[1].prompt_ids
    # Hash ids 0, 1, ... and 0, 14, ...: the first block of 512 is shared, the second is not.
    assert first[:512] == second[:512] and first[512:1024] != second[512:1024]
    assert [len(r.prompt_ids) for r in requests[:2]] == [6758, 7322]


def test_shared_prefixes_stand_in_front_and_are_shared():
    requests = plan_requests(spec(num_requests=40, shared_prefix={"tokens": 20, "num_prefixes": 3}), TEXT, 4096, 0)
    prefixes = {tuple(r.prompt_ids[:20]) for r in requests}
    assert len(prefixes) == 3 and {len(r.prompt_ids) for r in requests} == {30}
    assert len({tuple(r.prompt_ids[20:]) for r in requests}) == 40


def test_zipf_takes_the_first_prefix_most():
    shared = {"tokens": 20, "num_prefixes": 10, "zipf_exponent": 2.0}
    requests = plan_requests(spec(num_requests=400, shared_prefix=shared), TEXT, 4096, 0)
    counts = sorted((sum(r.prompt_ids[:20] == q.prompt_ids[:20] for r in requests) for q in requests), reverse=True)
    # The first of ten has probability 1 / sum(k ** -2) = 0.645, 258 of 400, standard deviation 9.6; 4 of them.
    assert 220 <= counts[0] <= 297


def test_lengths_do_not_move_arrivals_nor_arrivals_prompts_of_a_fixed_length():
    poisson = {"kind": "poisson", "rate_per_s": 3.0}
    fixed = plan_requests(spec(arrival=poisson), TEXT, 4096, 0)
    drawn = plan_requests(spec(arrival=poisson, output_tokens={"kind": "uniform", "low": 2, "high": 9}), TEXT, 4096, 0)
    assert [r.scheduled_s for r in fixed] == [r.scheduled_s for r in drawn]
    assert [r.prompt_ids for r in fixed] == [r.prompt_ids for r in drawn]


def test_one_by_one_is_the_same_as_all():
    assert list(iter_requests(spec(), TEXT, 4096, 3)) == plan_requests(spec(), TEXT, 4096, 3)


def test_decode_gives_the_text_and_sampling_a_seed():
    request = plan_requests(spec(sampling={"temperature": 0.8}), TEXT, 4096, 2, decode=lambda ids: f"{len(ids)} tokens")[1]
    assert request.prompt_text == "10 tokens" and request.seed == 2 * 1_000_003 + 1
    assert plan_requests(spec(), TEXT, 4096, 2)[1].seed is None


def test_warm_up_has_the_lengths_but_other_prompts():
    workload = spec(num_requests=40, output_tokens=90, arrival={"kind": "closed", "concurrency": 4})
    warm = warmup_requests(workload, TEXT, 4096, 0)
    assert len(warm) == num_warmup(workload) == 8
    assert {len(r.prompt_ids) for r in warm} == {10} and {r.output_tokens for r in warm} == {16}
    measured = {tuple(r.prompt_ids) for r in plan_requests(workload, TEXT, 4096, 0)}
    assert not measured & {tuple(r.prompt_ids) for r in warm}


def conversations(tmp_path, *turns) -> str:
    path = tmp_path / "talk.json"
    talks = [{"conversations": [{"from": "human", "value": text} for text in talk]} for talk in turns]
    path.write_text(json.dumps(talks), encoding="utf-8")
    return str(path)


def encode(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def talk_spec(path: str, num: int, **source) -> WorkloadSpec:
    changes = {"prompt_tokens": None, "output_tokens": None, "num_requests": num}
    return spec(source={"kind": "sharegpt", "path": path} | source, **changes)


def test_conversations_give_text_ids_and_answer_lengths(tmp_path):
    path = conversations(tmp_path, ["one two", "a b c"], ["only one turn"], ["three four five", "d e"], ["", "f g"])
    requests = plan_requests(talk_spec(path, 2), TEXT, 4096, 0, encode=encode)
    found = {(r.prompt_text, tuple(r.prompt_ids), r.output_tokens) for r in requests}
    assert found == {("one two", (3, 3), 3), ("three four five", (5, 4, 4), 2)}


def test_long_conversations_are_left_out_and_long_answers_cut(tmp_path):
    path = conversations(tmp_path, ["w " * 50, "a b"], ["x y", "a b c d e"])
    requests = plan_requests(talk_spec(path, 1, max_prompt_tokens=10, max_output_tokens=3), TEXT, 4096, 0, encode=encode)
    assert (requests[0].prompt_text, requests[0].output_tokens) == ("x y", 3)
    with pytest.raises(ScenarioError, match="has 1 of 2 conversations with a prompt of at most 10 tokens; lower num_requests"):
        plan_requests(talk_spec(path, 2, max_prompt_tokens=10), TEXT, 4096, 0, encode=encode)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param('[{"conversations": [{"va', "is the file cut off", id="truncated"),
        pytest.param('{"a": 1}', "must be a list of conversations", id="not-a-list"),
        pytest.param('[{"text": "x"}]', r"\[0\]: must be", id="other-format"),
    ],
)
def test_files_that_are_no_conversations(tmp_path, text, rule):
    path = tmp_path / "talk.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=rule):
        plan_requests(talk_spec(str(path), 1), TEXT, 4096, 0, encode=encode)


def test_conversations_need_a_tokenizer(tmp_path):
    with pytest.raises(ScenarioError, match="need the model's tokenizer"):
        plan_requests(talk_spec(conversations(tmp_path, ["a", "b c"]), 1), None, 4096, 0)


def test_bounds_hold_for_what_is_planned():
    for workload in (
        spec(),
        spec(prompt_tokens={"kind": "uniform", "low": 3, "high": 30}, shared_prefix={"tokens": 8}),
        replay(AZURE, "azure"),
        replay(MOONCAKE, "mooncake", max_prompt_tokens=900),
    ):
        bounds, requests = bounds_of(workload), plan_requests(workload, TEXT, 4096, 0)
        assert bounds.num_requests == len(requests)
        assert max(len(r.prompt_ids) for r in requests) <= bounds.max_prompt_tokens
        assert max(r.output_tokens for r in requests) <= bounds.max_output_tokens
        assert sum(r.output_tokens for r in requests) <= bounds.total_output_tokens


def test_a_trace_with_a_bad_row_is_in_the_record_and_the_verdict(tmp_path):
    path = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 1000 * i, "input_length": 5, "output_length": 3} for i in (0, 2, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"timesta')
    workload = replay(str(path), "mooncake")
    block = source_block(workload)
    assert (block["num_rows"], block["num_bad_rows"], block["num_unsorted"]) == (3, 1, 1)
    assert [reason.code for reason in judge_source(workload)] == ["trace_rows_left_out", "trace_unsorted"]
    assert source_block(spec()) is None and judge_source(spec()) == []
