"""The client against the bundled mock: every way in which a server can fail is named, counted, and in the verdict."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.client import ClientOptions, Endpoint, run_load
from harness.client.failures import FAILURES
from harness.collect.load import load_figures
from harness.collect.load_verdict import judge_load
from harness.errors import UsageError, WorkerError
from harness.mock import MockOptions, serve_mock
from harness.verdict import verdict
from load_cases import DEAD_URL, load, load_mock, planned

PATHS = os.pathsep.join([".", "kernels", "tests/harness"])
# Every third of twelve requests misbehaves: 4 of 12, far above the allowed 1 %.
FAULTS = [
    ("http_429", "http_429"),
    ("http_500", "http_5xx"),
    ("html", "html_answer"),
    ("no_stream", "no_stream"),
    ("disconnect", "disconnected"),
    ("hang", "stalled"),
    ("never", "stalled"),
    ("empty", "no_tokens"),
    ("error_event", "server_error"),
    ("bad_json", "bad_json"),
]


def judged(result) -> dict:
    figures = load_figures(result)
    return verdict(judge_load(result, figures))


def codes(state: dict) -> list[str]:
    return [reason["code"] for reason in state["reasons"] if reason["code"] != "no_steady_window"]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_fault_is_named_counted_and_invalidates(tmp_path, fault, kind):
    # Only a request that hangs is to be found silent, however busy this machine is.
    stall_timeout_s = 1.0 if kind == "stalled" else 30.0
    mock = MockOptions(fault=fault, fault_every=3)
    result, outcomes = load_mock(mock, tmp_path, planned(12), stall_timeout_s=stall_timeout_s)
    assert sorted(o.failure or "" for o in outcomes) == [""] * 8 + [kind] * 4
    figures = load_figures(result)
    assert figures.block["failures"][kind]["count"] == 4 and figures.block["num_answered"] == 8
    assert figures.metrics["failed_pct"]["value"] == pytest.approx(100 * 4 / 12)
    state = judged(result)
    assert state["state"] == "INVALID" and f"4 {kind}" in state["reasons"][0]["message"]
    assert FAILURES[kind] in state["reasons"][0]["message"]


NOTES = [
    pytest.param({"fault": "no_usage"}, "missing_usage", "WARN", id="no-usage"),
    pytest.param({"fault": "short"}, "short_output", "INVALID", id="short-output"),
    pytest.param({"fault": "no_done"}, "no_done", "WARN", id="no-done"),
    pytest.param({"tokens_per_chunk": 3}, "tokens_merged", "WARN", id="several-tokens-a-chunk-unsaid"),
]


@pytest.mark.parametrize(("mock", "note", "state"), NOTES)
def test_oddity_is_counted_and_in_the_verdict(tmp_path, mock, note, state):
    result, outcomes = load_mock(MockOptions(**mock), tmp_path, planned(12))
    assert all(note in o.notes and o.failure is None for o in outcomes)
    assert load_figures(result).block["notes"][note] == 12
    assert note in codes(judged(result)) and judged(result)["state"] == state


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_split_frames_and_characters_change_nothing(tmp_path, api):
    options = {"api": api, "keep_text": True}
    _, outcomes = load_mock(MockOptions(fault="split"), tmp_path, planned(4), **options)
    assert [o.text for o in outcomes] == [" tok öß 漢字 🙂 tok öß 漢字 🙂"] * 4
    assert all(len(o.chunk_times_ns) == 8 and not o.notes for o in outcomes)


def test_several_tokens_a_chunk_are_known_from_continuous_usage(tmp_path):
    _, outcomes = load_mock(MockOptions(tokens_per_chunk=3, usage="continuous"), tmp_path, planned(4))
    assert all(o.chunk_tokens == (3, 3, 2) and not o.notes for o in outcomes)


def test_times_are_those_of_the_server(tmp_path):
    result, outcomes = load_mock(MockOptions(ttft_ms=30, itl_ms=5), tmp_path, planned(8), api="chat")
    for o in outcomes:
        assert len(o.chunk_times_ns) == len(o.stamps_ns) == 8
        assert all(mine >= true for mine, true in zip(o.chunk_times_ns, o.stamps_ns, strict=True))
        assert o.scheduled_ns <= o.dispatched_ns <= o.sent_ns <= o.chunk_times_ns[0] <= o.end_ns
        assert o.chunk_times_ns[0] - o.sent_ns >= 29_000_000  # the mock waits 30 ms, timers round by up to 1
    assert load_figures(result).metrics["median_tpot_ms"]["value"] >= 4.0


def test_unreachable_server_ends_soon_and_is_invalid(tmp_path):
    result, outcomes = load(DEAD_URL, tmp_path, planned(500), abort_after_failures=10)
    assert {o.failure for o in outcomes} == {"unreachable"} and len(outcomes) + result.num_not_sent == 500
    assert result.num_not_sent > 400
    state = judged(result)
    assert state["state"] == "INVALID" and "never sent" in state["reasons"][0]["message"] and DEAD_URL in str(state)


def test_unknown_host_is_unreachable(tmp_path):
    _, outcomes = load("http://no-such-host.invalid:80", tmp_path, planned(2))
    assert [o.failure for o in outcomes] == ["unreachable"] * 2


def test_wrong_model_is_named(tmp_path):
    result, outcomes = load_mock(MockOptions(), tmp_path, planned(8), model="nope")
    assert {o.failure for o in outcomes} == {"wrong_model"} and "nope" in outcomes[0].detail
    assert judged(result)["state"] == "INVALID"


def test_a_server_that_counts_the_prompt_differently(tmp_path):
    request = planned(1)[0]
    with serve_mock(MockOptions()) as server:
        # 4 ids were planned and text of 4 words is sent as a chat; 9 words are another tokenizer's view.
        long = [type(request)("r-0", request.prompt_ids, 8, None, prompt_text=" ".join("w" * 99))]
        _, outcomes = load(server.url, tmp_path, long, api="chat")
    assert outcomes[0].notes == ("prompt_tokens_differ",)


def test_failures_within_the_share_warn(tmp_path):
    result, _ = load_mock(MockOptions(fault="http_500", fault_every=100), tmp_path, planned(100), max_failed_pct=1.0)
    assert judged(result)["state"] == "WARN" and codes(judged(result)) == ["failed_requests"]


def test_retries_are_counted_and_keep_the_scheduled_time(tmp_path):
    result, outcomes = load_mock(MockOptions(fault="http_429", fault_every=2), tmp_path, planned(8), max_retries=8)
    assert all(o.failure is None for o in outcomes)
    assert load_figures(result).block["num_retries"] == sum(o.attempts - 1 for o in outcomes) > 0
    assert "retries" in codes(judged(result))
    again = next(o for o in outcomes if o.attempts > 1)
    assert again.chunk_times_ns[0] - again.scheduled_ns >= 50_000_000  # the mock's Retry-After is 0.05 s


def test_no_retry_unless_asked(tmp_path):
    _, outcomes = load_mock(MockOptions(fault="http_429"), tmp_path, planned(4))
    assert {(o.failure, o.attempts) for o in outcomes} == {("http_429", 1)}


def test_closed_loop_keeps_the_number_in_flight(tmp_path):
    _, outcomes = load_mock(MockOptions(ttft_ms=10), tmp_path, planned(40), concurrency=5)
    events = sorted([(o.scheduled_ns, 1) for o in outcomes] + [(o.end_ns, -1) for o in outcomes])
    level, most = 0, 0
    for _, step in events:
        level += step
        most = max(most, level)
    assert most == 5


def test_queue_under_a_cap_is_shown_apart(tmp_path):
    requests = planned(10, tokens=2, rate_per_s=1000.0)  # all due within 10 ms, one at a time, 20 ms each
    result, outcomes = load_mock(MockOptions(ttft_ms=20), tmp_path, requests, concurrency=1)
    metrics = load_figures(result).metrics
    assert metrics["median_queue_ms"]["value"] > 50 and outcomes[-1].ready_ns - outcomes[-1].scheduled_ns > 150e6
    # TTFT counts from the scheduled time, so the queue is inside it.
    assert metrics["median_ttft_ms"]["value"] > metrics["median_queue_ms"]["value"]


def test_open_loop_does_not_wait_for_answers(tmp_path):
    requests = planned(30, tokens=2, rate_per_s=200.0)
    _, outcomes = load_mock(MockOptions(ttft_ms=300), tmp_path, requests, concurrency=None)
    # Due over 145 ms, answered after 300: all must have been sent before the first answer came.
    assert max(o.sent_ns for o in outcomes) < min(o.chunk_times_ns[0] for o in outcomes)


def test_without_a_cap_nothing_queues_and_lateness_is_the_client_s(tmp_path):
    # Answers come while others are due: an answer must not pass for a slot that became free.
    _, outcomes = load_mock(MockOptions(), tmp_path, planned(400, tokens=2, rate_per_s=2000.0), concurrency=None)
    assert all(o.ready_ns == o.scheduled_ns for o in outcomes)


def test_a_stall_of_the_server_is_in_the_latency_of_all_that_were_due(tmp_path):
    mock = MockOptions(freeze_after_requests=10, freeze_s=1.0)
    _, outcomes = load_mock(mock, tmp_path, planned(60, tokens=2, rate_per_s=40.0), concurrency=None)
    waits = [(o.chunk_times_ns[0] - o.scheduled_ns) / 1e9 for o in outcomes]
    # 40 requests are due in the second of standing still; those due in its first half wait more than half of it.
    assert max(waits) >= 0.9 and 17 <= sum(wait > 0.5 for wait in waits) <= 23


def test_warm_up_is_sent_first_and_kept_apart(tmp_path):
    result, outcomes = load_mock(MockOptions(), tmp_path, planned(6), warmup=planned(5))
    warm = list(result.outcomes(warmup="only"))
    assert len(warm) == 5 and len(outcomes) == 6
    assert max(o.end_ns for o in warm) <= min(o.scheduled_ns for o in outcomes)
    assert load_figures(result).block["warmup"] == {"num_requests": 5, "num_failed": 0}


def test_an_idle_connection_that_the_server_closed_is_made_anew(tmp_path):
    with serve_mock(MockOptions(idle_timeout_s=0.05)) as server:
        _, outcomes = load(server.url, tmp_path, planned(4, tokens=2, rate_per_s=5.0), concurrency=None)
    assert [o.failure for o in outcomes] == [None] * 4


def test_progress_is_told(tmp_path):
    told = []
    with serve_mock(MockOptions(ttft_ms=300)) as server:
        options = ClientOptions(concurrency=1)
        endpoint = Endpoint(server.url, "mock")
        run_load(endpoint, planned(5), options, folder=tmp_path, progress=lambda *args: told.append(args))
    assert told and told[-1][1] == 5 and told[-1][2] == "requests ended"


@pytest.mark.parametrize(
    ("requests", "options", "rule"),
    [
        pytest.param([], {}, "at least one request", id="no-requests"),
        pytest.param(planned(1), {"concurrency": None}, "needs ClientOptions.concurrency", id="closed-without-number"),
        pytest.param(planned(1), {"concurrency": 0}, "at least 1", id="nothing-in-flight"),
    ],
)
def test_loads_that_cannot_be(tmp_path, requests, options, rule):
    with pytest.raises(UsageError, match=rule):
        load(DEAD_URL, tmp_path, requests, **options)


def test_a_client_that_dies_is_an_error_of_its_own(tmp_path):
    with pytest.raises(WorkerError, match="its last words"):
        load(DEAD_URL, tmp_path, planned(1), extra_body={}, stall_timeout_s="soon")


def test_the_client_imports_nothing_heavy():
    heavy = ("torch", "numpy", "scipy", "pandas", "pydantic", "pyarrow", "matplotlib")
    code = f"import sys, harness.client.__main__; print([m for m in {heavy} if m in sys.modules])"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and time.monotonic() - began < 10


def test_a_machine_that_runs_out_of_descriptors_is_named(tmp_path):
    code = f"""
import resource
from collections import Counter
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from harness.mock import MockOptions
from load_cases import load_mock, planned
_, outcomes = load_mock(MockOptions(ttft_ms=200), Path({str(tmp_path)!r}), planned(60), concurrency=60)
print(sorted(Counter(o.failure for o in outcomes), key=str))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": PATHS})
    assert "client_limit" in done.stdout, done.stderr


def test_an_answer_that_ends_with_its_connection(tmp_path):
    stream = b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {"choices": [{"text": "a"}]}\n\n'
    answers = {
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\r\noverloaded": "http_5xx",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>hello</html>": "html_answer",
        stream: "disconnected",
        stream + b"data: [DONE]\n\n": None,
        b"SSH-2.0-OpenSSH_9.6\r\n": "bad_http",
    }
    for number, (data, failure) in enumerate(answers.items()):
        with one_answer(data) as url:
            _, outcomes = load(url, tmp_path / str(number), planned(1))
        assert outcomes[0].failure == failure, (data, outcomes[0])


@contextlib.contextmanager
def one_answer(data: bytes):
    """A server that sends the same bytes to everyone and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer(connection) -> None:
            with connection, contextlib.suppress(OSError):
                if connection.recv(65536):
                    connection.sendall(data)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
