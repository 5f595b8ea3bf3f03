"""`harness serve` end to end, driven by the official `openai` package and by raw HTTP where that package hides things."""

import asyncio
import json
import math
import time
import urllib.error
import urllib.request

import openai
import pytest

from served import harness_serve

MAX_CONTEXT = 256
PRECISION = ("--precision", "nvfp4", "--method", "absmax")  # absmax loads at once; the search takes seconds
PROMPT = "It was a truth universally acknowledged"


@pytest.fixture(scope="module")
def server():
    with harness_serve("pocket-mixtral", *PRECISION, "--max-slots", "4", "--max-waiting", "4", "--max-context", "256") as row:
        yield row


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server["url"], api_key="none", max_retries=0, timeout=60) as made:
        yield made


def _get(server, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(server["url"].removesuffix("/v1") + path, timeout=30) as answer:
        return answer.status, answer.read().decode()


def _metric(server, start: str) -> float:
    """Sum of the samples whose line begins so."""
    lines = _get(server, "/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_models_and_health(server, client):
    (model,) = client.models.list().data
    assert (model.id, model.max_model_len) == ("pocket-mixtral", MAX_CONTEXT)
    assert client.models.retrieve("pocket-mixtral").id == "pocket-mixtral"
    assert _get(server, "/health")[0] == 200


def test_greedy_completion_is_the_same_streamed_and_not(client):
    asked = dict(model="pocket-mixtral", prompt=PROMPT, max_tokens=24, temperature=0)
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].text == "".join(c.choices[0].text for c in chunks if c.choices)
    assert whole.usage == chunks[-1].usage
    assert whole.usage.completion_tokens == 24 == sum(1 for c in chunks if c.choices)
    assert whole.choices[0].finish_reason == "length" == chunks[-2].choices[0].finish_reason
    assert any(word in whole.choices[0].text for word in (" the ", " a ", " and ", " to ", " of "))  # English came out


def test_token_ids_give_what_text_gives(client):
    from fp4moe import pocket
    from harness.serve.text import Codec

    ids = Codec(pocket.checkpoint_dir()).encode(PROMPT)
    texts = [client.completions.create(model="pocket-mixtral", prompt=p, max_tokens=8, temperature=0) for p in (PROMPT, ids)]
    assert texts[0].choices[0].text == texts[1].choices[0].text
    assert texts[0].usage.prompt_tokens == len(ids)


def test_several_prompts_in_one_request(client):
    answer = client.completions.create(model="pocket-mixtral", prompt=[PROMPT, "Call me"], max_tokens=4, temperature=0)
    alone = client.completions.create(model="pocket-mixtral", prompt="Call me", max_tokens=4, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[1].text == alone.choices[0].text


def test_chat_streams_what_it_answers(client):
    asked = dict(
        model="pocket-mixtral", messages=[{"role": "user", "content": "Who goes there?"}], max_tokens=12, temperature=0
    )
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert whole.choices[0].message.content == "".join(c.choices[0].delta.content for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    entries = whole.choices[0].logprobs.content
    # Greedy: the token that was taken is the likeliest at its place.
    assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in entries) and len(entries) == 12


def test_same_seed_same_answer(client):
    asked = dict(model="pocket-mixtral", prompt=PROMPT, max_tokens=16, temperature=1.0)
    first, second, other = (client.completions.create(**asked, seed=seed).choices[0].text for seed in (7, 7, 8))
    assert first == second != other


def test_stop_text_is_left_out_and_ends_the_answer(client):
    asked = dict(model="pocket-mixtral", prompt=PROMPT, max_tokens=24, temperature=0)
    full = client.completions.create(**asked).choices[0].text
    stop = full[10:14]
    for stream in (False, True):
        answer = client.completions.create(**asked, stop=[stop], stream=stream)
        parts = list(answer) if stream else [answer]
        assert "".join(part.choices[0].text for part in parts) == full[: full.index(stop)]
        assert parts[-1].choices[0].finish_reason == "stop"


def test_echo_gives_the_log_probabilities_of_the_prompt(client):
    """The perplexity that a client computes is the one of the model itself: same weights, same kernels, so the same float32
    logits; log_softmax of one sequence or of another batch may differ by rounding alone (2048 terms, 1e-7 each).
    """
    import torch

    from fp4moe import pocket
    from fp4moe.precision import Precision
    from fp4moe.runtime import load_model
    from harness.serve.text import Codec

    ids = Codec(pocket.checkpoint_dir()).encode(pocket.heldout_text()[:600])[:200]
    asked = dict(model="pocket-mixtral", prompt=ids, max_tokens=0, echo=True, logprobs=1)
    given = client.completions.create(**asked).choices[0].logprobs.token_logprobs
    model = load_model(pocket.checkpoint_dir(), Precision("nvfp4", "absmax", "bf16"))
    tokens = torch.tensor([ids])
    expected = model.score(tokens[:, :-1])[0].log_softmax(-1).gather(-1, tokens[0, 1:, None]).squeeze(-1)
    assert given[0] is None
    torch.testing.assert_close(torch.tensor(given[1:]), expected, rtol=0, atol=1e-3)
    assert math.exp(-sum(given[1:]) / len(given[1:])) < 100  # a trained model's, far below the vocabulary's 2048


def test_return_token_ids_tells_the_tokens(client):
    asked = dict(model="pocket-mixtral", prompt=PROMPT, max_tokens=6, temperature=0, extra_body={"return_token_ids": True})
    whole = client.completions.create(**asked).choices[0].token_ids
    streamed = [token for c in client.completions.create(**asked, stream=True) for token in c.choices[0].token_ids]
    assert whole == streamed and len(whole) == 6


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        pytest.param({"model": "gpt-4"}, openai.NotFoundError, "does not exist", id="wrong-model"),
        pytest.param({"prompt": [5] * 250, "max_tokens": 7}, openai.BadRequestError, "257|250", id="too-long"),
        pytest.param({"prompt": []}, openai.BadRequestError, "prompt", id="empty-prompt"),
        pytest.param({"prompt": [2048]}, openai.BadRequestError, "below 2048", id="token-id-of-another-model"),
        pytest.param({"temperature": -1}, openai.BadRequestError, "temperature", id="negative-temperature"),
        pytest.param({"n": 2}, openai.BadRequestError, "n: not supported", id="several-answers"),
        pytest.param({"max_tokens": 0}, openai.BadRequestError, "max_tokens", id="no-tokens-and-no-echo"),
        pytest.param({"logprobs": 1, "stream": True}, openai.BadRequestError, "stream", id="logprobs-of-a-stream"),
    ],
)
def test_refusals_have_openais_form(client, change, kind, said):
    with pytest.raises(kind) as caught:
        client.completions.create(**{"model": "pocket-mixtral", "prompt": PROMPT, "max_tokens": 4} | change)
    body = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert any(part in body["message"] for part in said.split("|"))


def test_too_long_has_the_code_that_clients_look_for(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="pocket-mixtral", prompt=[5] * 300, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe"], ids=["empty", "cut", "list", "not-utf-8"])
def test_broken_bodies_are_400(server, body):
    request = urllib.request.Request(f"{server['url']}/completions", data=body, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert caught.value.code == 400
    assert json.loads(caught.value.read())["error"]["type"] == "invalid_request_error"


def test_a_full_server_says_429(server):
    """4 slots and a queue of 4: of 12 at once, 4 are told to come back."""

    async def all_at_once() -> list:
        async with openai.AsyncOpenAI(base_url=server["url"], api_key="none", max_retries=0) as client:
            asked = dict(model="pocket-mixtral", prompt=PROMPT, max_tokens=64, extra_body={"ignore_eos": True})
            return await asyncio.gather(*(client.completions.create(**asked) for _ in range(12)), return_exceptions=True)

    answers = asyncio.run(all_at_once())
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert len(refused) == 4
    assert all(answer.usage.completion_tokens == 64 for answer in answers if answer not in refused)


def test_a_client_that_leaves_frees_its_slot(server, client):
    before = _metric(server, 'fp4moe_requests_finished_total{model_name="pocket-mixtral",reason="cancelled"}')
    stream = client.completions.create(
        model="pocket-mixtral", prompt=PROMPT, max_tokens=200, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 10
    while _metric(server, "fp4moe_requests_running") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _metric(server, "fp4moe_requests_running") == 0
    assert _metric(server, 'fp4moe_requests_finished_total{model_name="pocket-mixtral",reason="cancelled"}') == before + 1


def test_metrics_count_what_was_served(server, client):
    names = ("fp4moe_generation_tokens_total", "fp4moe_prompt_tokens_total", "fp4moe_time_to_first_token_seconds_count")
    before = [_metric(server, name) for name in names]
    client.completions.create(model="pocket-mixtral", prompt=[5, 6, 7], max_tokens=5, extra_body={"ignore_eos": True})
    assert [_metric(server, name) - b for name, b in zip(names, before, strict=True)] == [5, 3, 1]
    assert _metric(server, "fp4moe_kv_cache_bytes") > 0
