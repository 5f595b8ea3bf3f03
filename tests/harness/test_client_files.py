"""Plan and outcome files: what is written is what is read, and what cannot be sent is refused."""

import json
from dataclasses import replace

import pytest

from harness.client import Endpoint, PlannedRequest
from harness.client.outcomes import OutcomeWriter, read_outcomes
from harness.client.plan_file import PlanReader, write_plan
from harness.client.pool import Address
from harness.errors import UsageError
from harness.scenario.schema import WorkloadSpec
from harness.workload.requests import plan_requests
from load_cases import outcome, planned

ENDPOINT = Endpoint("http://127.0.0.1:8000", "m")
CHAT = Endpoint("http://127.0.0.1:8000", "m", "chat")


def read_all(path) -> list:
    reader, rows = PlanReader(path), []
    while (row := reader.next()) is not None:
        rows.append(row)
    reader.close()
    return rows


def body_of(tmp_path, request: PlannedRequest, endpoint=ENDPOINT, **extra) -> dict:
    write_plan(tmp_path / "p", [request], endpoint, extra)
    return json.loads(read_all(tmp_path / "p")[0].body)


def test_plan_comes_back(tmp_path):
    summary = write_plan(tmp_path / "p", planned(3, rate_per_s=10.0), ENDPOINT, {})
    rows = read_all(tmp_path / "p")
    assert (summary.num_requests, summary.is_closed_loop) == (3, False)
    assert [(r.request_id, r.scheduled_ns, r.prompt_tokens, r.asked_tokens) for r in rows] == [
        ("r-0", 0, 4, 8),
        ("r-1", 100_000_000, 4, 8),
        ("r-2", 200_000_000, 4, 8),
    ]


def test_completions_send_the_ids_and_ask_for_usage(tmp_path):
    body = body_of(tmp_path, planned(1)[0], temperature=0.0, ignore_eos=True)
    assert body["prompt"] == [1, 2, 3, 4] and body["max_tokens"] == 8 and body["stream"] is True
    assert body["stream_options"] == {"include_usage": True} and body["temperature"] == 0.0 and body["ignore_eos"] is True


def test_chat_sends_the_text(tmp_path):
    assert body_of(tmp_path, planned(1)[0], CHAT)["messages"] == [{"role": "user", "content": "a b c d"}]


def test_seed_is_sent_where_there_is_one(tmp_path):
    assert "seed" not in body_of(tmp_path, planned(1)[0])
    assert body_of(tmp_path, replace(planned(1)[0], seed=5))["seed"] == 5


def test_every_server_gets_the_same_requests_at_the_same_times(tmp_path):
    spec = WorkloadSpec.model_validate(
        {
            "name": "w",
            "prompt_tokens": {"kind": "uniform", "low": 4, "high": 40},
            "output_tokens": {"kind": "lognormal", "median": 20.0, "sigma": 0.7, "low": 2, "high": 90},
            "num_requests": 50,
            "arrival": {"kind": "gamma", "rate_per_s": 9.0, "burstiness": 0.4},
        }
    )
    text = list(range(1000, 3000))
    for name, url in (("a", "http://one:1/v1"), ("b", "https://two.example")):
        write_plan(tmp_path / name, plan_requests(spec, text, 4096, 3), Endpoint(url, "m"), {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    in_process = plan_requests(spec, text, 4096, 3)
    for row, request in zip(read_all(tmp_path / "a"), in_process, strict=True):
        assert json.loads(row.body)["prompt"] == list(request.prompt_ids)
        assert (row.asked_tokens, row.scheduled_ns) == (request.output_tokens, round(request.scheduled_s * 1e9))


@pytest.mark.parametrize(
    ("request_", "endpoint", "rule"),
    [
        pytest.param(PlannedRequest("r-0", [], 4, None), ENDPOINT, "has no prompt", id="no-prompt"),
        pytest.param(PlannedRequest("r-0", [1], 4, None), CHAT, "takes text", id="chat-without-text"),
        pytest.param(PlannedRequest("r-0", [1], 4, -1.0), ENDPOINT, "must not fall", id="negative-time"),
        pytest.param(PlannedRequest("r-0", [1], 4, float("nan")), ENDPOINT, "must not fall", id="time-not-a-number"),
    ],
)
def test_what_cannot_be_sent(tmp_path, request_, endpoint, rule):
    with pytest.raises(UsageError, match=rule):
        write_plan(tmp_path / "p", [request_], endpoint, {})


def test_times_for_some_requests_only_are_refused(tmp_path):
    with pytest.raises(UsageError, match="for all of its requests or for none"):
        write_plan(tmp_path / "p", [*planned(1), *planned(2, rate_per_s=1.0)], ENDPOINT, {})


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("http://h:8000", b"POST /v1/completions HTTP/1.1\r\nHost: h:8000\r\n"),
        ("http://h:8000/v1/", b"POST /v1/completions HTTP/1.1\r\nHost: h:8000\r\n"),
        ("http://h/proxy", b"POST /proxy/v1/completions HTTP/1.1\r\nHost: h\r\n"),
    ],
    ids=["bare", "with-v1", "behind-a-path"],
)
def test_head_of_a_request(url, head):
    data = Address(url, "completions", (("Authorization", "Bearer x"),)).request(b"{}")
    assert data.startswith(head) and data.endswith(b"Content-Length: 2\r\n\r\n{}")
    assert b"\r\nAuthorization: Bearer x\r\n" in data


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", "http://h:99999", "http://h:0"])
def test_what_is_no_url(url):
    with pytest.raises(UsageError, match="must be http"):
        Address(url, "completions", ())


def test_a_header_cannot_break_the_request():
    with pytest.raises(UsageError, match="one line"):
        Address("http://h", "completions", (("X", "a\r\nEvil: 1"),))


OUTCOMES = [
    pytest.param({}, id="plain"),
    pytest.param({"usage_output_tokens": None, "usage_prompt_tokens": None, "notes": ("missing_usage",)}, id="no-usage"),
    pytest.param({"usage_output_tokens": 0}, id="zero-is-not-nothing"),
    pytest.param({"chunk_tokens": (2, 1, 3), "text": "é", "token_ids": (1, 2)}, id="several-tokens-a-chunk"),
    pytest.param({"failure": "stalled", "detail": "x", "sent_ns": None, "is_warmup": True, "attempts": 3}, id="failed"),
]


@pytest.mark.parametrize("changes", OUTCOMES)
def test_outcomes_come_back(tmp_path, changes):
    wrote = outcome(0, due_ms=0, chunks_ms=[1, 2, 3], **changes)
    writer = OutcomeWriter(tmp_path / "o")
    writer.add(wrote)
    writer.close()
    assert list(read_outcomes(tmp_path / "o")) == [wrote]
