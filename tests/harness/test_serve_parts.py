"""The parts of `harness serve` that need no model: stop texts, text piece by piece, bodies, the engine's thread."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4moe import pocket
from harness.serve.body import ChatBody, CompletionBody, parse
from harness.serve.engine_thread import EngineThread
from harness.serve.errors import ApiError
from harness.serve.generate import Generator, Limits
from harness.serve.jobs import GenerationSpec
from harness.serve.metrics import ServerMetrics
from harness.serve.stops import StopWatch
from harness.serve.text import Codec

CODEC = Codec(pocket.checkpoint_dir())


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_stop_texts_cut_like_a_search_in_the_whole(text, stops, size):
    """However the text is cut into pieces: what is shown is what stands before the first stop text."""
    watch, shown = StopWatch(tuple(stops)), ""
    for start in range(0, len(text), size):
        shown += watch.add(text[start : start + size])
        if watch.is_met:
            break
    shown += watch.rest()
    if not any(stop in text for stop in stops):
        assert shown == text and not watch.is_met
    else:
        assert watch.is_met and text.startswith(shown) and not any(stop in shown for stop in stops)


@pytest.mark.parametrize("text", ["It was a truth", "\u00c9lise \u2603 \U0001f600 waits", "line\n\n  two", "\U0001f600"])
def test_pieces_join_to_the_text_and_never_hold_half_a_character(text):
    pieces = CODEC.pieces()
    ids = CODEC.encode(text)
    parts = [pieces.add(token) for token in ids] + [pieces.rest()]
    assert "".join(parts) == CODEC.decode(ids) == text
    assert not any("\ufffd" in part for part in parts)


def test_an_answer_that_ends_inside_a_character_says_so():
    pieces = CODEC.pieces()
    ids = CODEC.encode("a\U0001f600", add_special_tokens=False)[:-1]
    assert "".join([pieces.add(token) for token in ids] + [pieces.rest()]).startswith("a\ufffd")


def test_a_base_model_gets_plain_chat_lines():
    prompt = CODEC.chat_prompt([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}])
    assert prompt == "user: hi\nassistant: yes\nassistant:"


@pytest.mark.parametrize(
    ("kind", "data", "param"),
    [
        pytest.param(CompletionBody, {}, "prompt", id="no-prompt"),
        pytest.param(CompletionBody, {"prompt": {"a": 1}}, "prompt", id="prompt-of-another-type"),
        pytest.param(CompletionBody, {"prompt": [1.5]}, "prompt", id="prompt-of-fractions"),
        pytest.param(CompletionBody, {"prompt": ["a"] * 300}, "prompt", id="too-many-prompts"),
        pytest.param(CompletionBody, {"prompt": "a", "top_p": 0}, "top_p", id="top-p-0"),
        pytest.param(CompletionBody, {"prompt": "a", "temperature": float("inf")}, "temperature", id="infinite-temperature"),
        pytest.param(CompletionBody, {"prompt": "a", "min_tokens": 3}, "min_tokens", id="min-tokens-alone"),
        pytest.param(CompletionBody, {"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias", id="logit-bias"),
        pytest.param(ChatBody, {"messages": []}, "messages", id="no-messages"),
        pytest.param(ChatBody, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", id="image"),
        pytest.param(ChatBody, {"messages": [{"role": "user"}], "tools": [{}]}, "tools", id="tools"),
    ],
)
def test_bodies_that_are_refused_name_the_field(kind, data, param):
    with pytest.raises(ApiError) as caught:
        parse(kind, data)
    assert caught.value.status == 400 and caught.value.param == param


@pytest.mark.parametrize("prompt", ["text", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_four_forms_of_a_prompt(prompt):
    body = parse(CompletionBody, {"prompt": prompt, "unknown_key": 1, "n": 1, "presence_penalty": 0})
    assert body.prompts == {"text": ["text"]}.get(str(prompt), [prompt] if prompt == [1, 2] else prompt)


@dataclass
class _Step:
    """As StepResult."""

    emitted: tuple
    finished: tuple = ()
    phase: str = "decode"
    start_ns: int = 0
    end_ns: int = 1
    num_tokens: int = 1


class _FailingEngine:
    """Gives one token, then raises."""

    def __init__(self):
        self.jobs = []

    has_work = property(lambda self: bool(self.jobs))

    def submit(self, spec):
        self.jobs.append(spec.job_id)

    def step(self):
        if len(self.jobs) > 1:
            raise RuntimeError("device lost")
        self.jobs.append("again")
        return _Step(((self.jobs[0], 7),))

    def is_refusal(self, error):
        return False


def test_an_engine_that_fails_ends_its_requests_with_500_and_takes_no_more():
    async def play():
        metrics = ServerMetrics("m")
        thread = EngineThread(_FailingEngine(), asyncio.get_running_loop(), metrics.stepped)
        generator = Generator(thread, None, Limits(1, 1, 100, 10, frozenset()), metrics)
        thread.start()
        got = []
        try:
            for _ in range(2):
                with pytest.raises(ApiError) as caught:
                    async for piece in generator.run([GenerationSpec([1], 5)]):
                        got.append(piece.token_id)
                assert caught.value.status == 500 and "device lost" in str(caught.value)
        finally:
            thread.stop()
        return got

    assert asyncio.run(play()) == [7]
