"""Short loads against the bundled mock, for tests of the client and of the figures."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.client import ClientOptions, Endpoint, LoadResult, PlannedRequest, RequestOutcome, run_load
from harness.mock import MockOptions, serve_mock

PROMPT = (1, 2, 3, 4)
DEAD_URL = "http://127.0.0.1:1"
"""Port 1 is privileged and unused: connecting is refused at once."""


def needs_a_processor() -> None:
    """Skip a test of times where so much runs that a process waits its turn: that would measure the others."""
    load, limit = os.getloadavg()[0], 4 * os.cpu_count()
    if load > limit:
        pytest.skip(f"load average {load:.0f} on {os.cpu_count()} processors, more than {limit}: no time here means anything")


def planned(count: int, *, tokens: int = 8, rate_per_s: float | None = None) -> list[PlannedRequest]:
    """Requests of a closed loop, or evenly spaced ones."""
    due = [None if rate_per_s is None else index / rate_per_s for index in range(count)]
    return [PlannedRequest(f"r-{i}", PROMPT, tokens, time, prompt_text="a b c d") for i, time in enumerate(due)]


def load(url: str, folder: Path, requests: list[PlannedRequest], *, api="completions", model="mock", warmup=(), **options):
    """Run a load; (result, outcomes in order of the request's number)."""
    limits = {"concurrency": 4, "stall_timeout_s": 30.0, "retry_wait_s": 0.01} | options
    result = run_load(Endpoint(url, model, api), requests, ClientOptions(**limits), folder=folder, warmup=warmup)
    return result, in_order(result)


def in_order(result: LoadResult) -> list[RequestOutcome]:
    """The outcomes by the number of the request."""
    return sorted(result.outcomes(), key=lambda outcome: int(outcome.request_id.split("-")[1]))


def load_mock(mock: MockOptions, folder: Path, requests: list[PlannedRequest], **options):
    """Start a mock, run a load against it, stop it."""
    with serve_mock(mock) as server:
        return load(server.url, folder, requests, **options)


def outcome(index: int, *, due_ms: float, chunks_ms: list[float], asked: int | None = None, **changes) -> RequestOutcome:
    """An outcome by hand: due, then chunks at times in ms."""
    times = tuple(round(t * 1e6) for t in chunks_ms)
    due = round(due_ms * 1e6)
    base = RequestOutcome(
        f"r-{index}",
        due,
        due,
        due,
        due,
        times[-1] if times else due,
        times,
        (1,) * len(times),
        len(PROMPT),
        len(times) if asked is None else asked,
        len(PROMPT),
        len(times),
        None,
    )
    return replace(base, **changes)
