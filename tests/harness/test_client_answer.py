"""One answer: which chunks carry output, how many tokens each holds, what is a failure."""

import json

import pytest

from harness.client.answer import Answer


def answer(*events, keep_text: bool = True) -> Answer:
    result = Answer(keep_text=keep_text)
    for index, event in enumerate(events):
        result.feed(event if isinstance(event, bytes) else json.dumps(event).encode(), 10 * (index + 1))
    return result


def completion(text: str, finish=None, **more) -> dict:
    choice = {"index": 0, "text": text, "finish_reason": finish} | more.pop("choice", {})
    return {"model": "m", "choices": [choice]} | more


def chat(delta: dict, finish=None, **more) -> dict:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more


def test_completion_times_text_and_end():
    got = answer(completion("a"), completion("b"), completion("", "length"), b"[DONE]")
    assert got.chunk_times_ns == [10, 20] and got.chunk_tokens == [1, 1]
    assert "".join(got.text) == "ab" and got.finish_reason == "length" and got.is_done and got.model == "m"


def test_last_text_may_come_with_the_end():
    assert answer(completion("a"), completion("b", "stop")).chunk_times_ns == [10, 20]


def test_a_completion_chunk_without_text_is_a_token_whose_character_is_not_whole():
    assert answer(completion(""), completion("é")).chunk_times_ns == [10, 20]


def test_the_role_chunk_of_a_chat_is_no_token():
    events = [chat({"role": "assistant", "content": ""}), chat({"content": "a"}), chat({}, "stop")]
    assert answer(*events).chunk_times_ns == [20]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_counts_as_output(key):
    assert answer(chat({key: "hm"})).chunk_times_ns == [10]


def test_tool_calls_count_as_output():
    assert answer(chat({"tool_calls": [{"index": 0}]})).chunk_times_ns == [10]


COUNTS = [
    pytest.param([{"usage": {"completion_tokens": 3}}, {"usage": {"completion_tokens": 5}}], [3, 2], id="usage-so-far"),
    pytest.param([{"choice": {"token_ids": [1, 2]}}, {"choice": {"token_ids": [3]}}], [2, 1], id="token-ids"),
    pytest.param([{"choice": {"logprobs": {"tokens": ["a", "b"]}}}, {}], [2, 1], id="log-probabilities"),
    pytest.param([{"choice": {"logprobs": None}}, {"usage": None}], [1, 1], id="nothing-said"),
]


@pytest.mark.parametrize(("extras", "tokens"), COUNTS)
def test_tokens_of_a_chunk(extras, tokens):
    assert answer(*(completion("x", **extra) for extra in extras)).chunk_tokens == tokens


def test_usage_of_the_last_chunk():
    got = answer(completion("a"), {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}})
    assert (got.usage_prompt_tokens, got.usage_output_tokens) == (7, 9) and got.chunk_times_ns == [10]


def test_token_ids_are_kept_with_the_text():
    events = [completion("a", choice={"token_ids": [5, 6]}), completion("b", choice={"token_ids": [7]})]
    assert answer(*events).token_ids == [5, 6, 7]
    assert answer(*events, keep_text=False).token_ids == []


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        pytest.param(b'{"choices": [', "bad_json", id="cut-off"),
        pytest.param(b"[1]", "server_error", id="not-an-object"),
        pytest.param({"error": {"message": "engine died"}}, "server_error", id="openai-error"),
        pytest.param({"object": "error", "message": "engine died"}, "server_error", id="vllm-error"),
    ],
)
def test_failures_inside_the_stream(event, kind):
    got = answer(completion("a"), event)
    assert got.failure == kind and got.detail
