"""One answer: which chunks carry output, how many tokens each holds, what is a failure."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


SHAPES = [
    pytest.param({"choices": [5]}, id="choice-is-a-number"),
    pytest.param({"choices": {"a": 1}}, id="choices-are-an-object"),
    pytest.param({"choices": [{"text": 5}]}, id="text-is-a-number"),
    pytest.param({"choices": [{"delta": []}, 1], "usage": [1]}, id="usage-is-a-list"),
    pytest.param({"choices": [{"delta": {"content": ["a"]}}]}, id="content-is-a-list"),
    pytest.param({"choices": [], "usage": {"completion_tokens": "9"}}, id="count-is-a-text"),
    pytest.param({"choices": [], "usage": {"completion_tokens": -1}}, id="count-is-negative"),
    pytest.param({"choices": [{"text": "a", "token_ids": ["x"]}]}, id="token-id-is-a-text"),
    pytest.param({"choices": [{"text": "a", "token_ids": 7}]}, id="token-ids-are-a-number"),
]


@pytest.mark.parametrize("event", SHAPES)
def test_json_of_another_shape_is_a_failure_of_the_server(event):
    assert answer(event).failure == "bad_json"


KEYS = ["choices", "text", "delta", "content", "usage", "completion_tokens", "token_ids", "logprobs", "tokens", "finish_reason"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, database=None)  # a busy machine is no failure
@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage", "model", "stamp_ns"]), anything, max_size=3), max_size=4))
def test_no_answer_of_a_server_breaks_the_client(events):
    got = answer(*events)
    assert len(got.chunk_times_ns) == len(got.chunk_tokens) and all(type(count) is int for count in got.chunk_tokens)
