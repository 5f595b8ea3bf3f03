"""Whether a URL is the API that it should be: every way in which it is not has a name and a next step."""

import json
import socket

import numpy as np
import pytest

from fake_api import fake_api, models
from harness.backends.served.http import HttpProblem, server_of
from harness.backends.served.identify import identify, tokenizer_problem
from harness.backends.served.quality import score
from harness.workload.heldout import HeldoutWindows

PAGE = "<html><body>Welcome</body></html>"
WINDOWS = HeldoutWindows(np.array([[1, 5, 6], [1, 7, 8]]), 12)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_fits():
    with fake_api(lambda path, body: (200, models("m") if path == "/v1/models" else '{"version": "1.2"}')) as url:
        found = identify(server_of(url), None)
    assert (found.model, found.version) == ("m", "1.2")


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_url_with_or_without_v1(given):
    assert server_of(given).url == "http://h:1/v1" and server_of(given).root == "http://h:1"


def test_nobody_listens():
    with pytest.raises(HttpProblem, match="is the server up") as caught:
        identify(server_of(f"http://127.0.0.1:{_free_port()}"), None)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize(
    ("status", "text", "wanted", "kind", "words"),
    [
        pytest.param(200, PAGE, None, "html_answer", "answers a web page; name the address", id="a-web-page"),
        pytest.param(404, PAGE, None, "html_answer", "HTTP 404", id="a-web-page-that-is-an-error"),
        pytest.param(200, "hello", None, "bad_json", "no JSON object: 'hello'", id="text"),
        pytest.param(200, "{}", None, "bad_json", "lists no model", id="json-of-something-else"),
        pytest.param(200, models("a", "b"), "c", "wrong_model", "serves a, b, and not 'c'", id="wrong-model"),
        pytest.param(200, models("a", "b"), None, "wrong_model", "name one as `model`", id="which-model"),
        pytest.param(401, '{"error": {"message": "no key"}}', None, "http_4xx", "HTTP 401: no key", id="no-key"),
        pytest.param(503, "busy", None, "http_5xx", "HTTP 503: busy", id="busy"),
    ],
)
def test_a_url_that_is_no_such_api(status, text, wanted, kind, words):
    with fake_api(lambda path, body: (status, text)) as url, pytest.raises(HttpProblem) as caught:
        identify(server_of(url), wanted)
    assert caught.value.kind == kind and words in str(caught.value)


@pytest.mark.parametrize(("counted", "fits"), [(4, True), (5, True), (6, True), (3, False), (9, False), (None, True)])
def test_another_tokenizer_is_seen_by_its_count(counted, fits):
    """Begin and end of text may be added; a server without `usage` cannot be judged by it."""
    usage = {} if counted is None else {"usage": {"prompt_tokens": counted}}
    with fake_api(lambda path, body: (200, json.dumps(usage))) as url:
        problem = tokenizer_problem(server_of(url), "m", "some text", [1, 2, 3, 4])
    assert (problem is None) == fits
    assert fits or f"4 tokens here and {counted} at" in problem


def _echoed(body: dict) -> dict:
    names = [f"token_id:{token}" for token in (*body["prompt"], 9)]
    logprobs = [None, *(-0.5 * token for token in body["prompt"][1:]), -1.0]
    top = [None, *({name: -0.1, "token_id:3": -0.01} for name in names[1:])]
    return {"choices": [{"logprobs": {"tokens": names, "token_logprobs": logprobs, "top_logprobs": top}}]}


def test_perplexity_through_echo():
    with fake_api(lambda path, body: (200, json.dumps(_echoed(body)))) as url:
        nll, top1 = score(server_of(url), "m", WINDOWS, lambda *told: None)
    np.testing.assert_array_equal(nll, np.float32([[2.5, 3.0], [3.5, 4.0]]))
    np.testing.assert_array_equal(top1, [[3, 3], [3, 3]])


def test_likeliest_tokens_by_text_are_not_guessed():
    def answer(path, body):
        answered = _echoed(body)
        answered["choices"][0]["logprobs"]["top_logprobs"] = [None, *[{"word": -0.1}] * 3]
        return 200, json.dumps(answered)

    with fake_api(answer) as url:
        assert score(server_of(url), "m", WINDOWS, lambda *told: None)[1] is None


@pytest.mark.parametrize("logprobs", [None, {"token_logprobs": []}, {"token_logprobs": [None, None, -1.0]}])
def test_a_server_without_prompt_logprobs(logprobs):
    with (
        fake_api(lambda path, body: (200, json.dumps({"choices": [{"logprobs": logprobs}]}))) as url,
        pytest.raises(HttpProblem, match="log-probabilities for a prompt of 3 tokens") as caught,
    ):
        score(server_of(url), "m", WINDOWS, lambda *told: None)
    assert caught.value.kind == "no_prompt_logprobs"
