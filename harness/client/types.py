"""What goes into a load and what comes out: Endpoint, ClientOptions, RequestOutcome, LoadResult.

All times are monotonic nanoseconds of this machine (`time.monotonic_ns`). Imports nothing heavy: the client process
holds these too. Figures are computed by `harness.collect.load`, verdicts by `harness.collect.load_verdict`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Api = Literal["completions", "chat"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks OpenAI's streaming API."""

    url: str
    """http(s)://host:port, with or without a path that ends in /v1."""
    model: str
    """The name to ask for; the answer's `model` must be the same."""
    api: Api = "completions"
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, such as ("Authorization", "Bearer ..."); never written to a record."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How to send, when to give up, what to keep."""

    concurrency: int | None = None
    """Requests in flight at most. In a closed loop (`scheduled_s` is None) the number kept in flight, and required; in an
    open loop a cap, None for no cap: a request that is due waits, and its wait is its queue time."""
    warmup_concurrency: int | None = None
    """Requests in flight during warm-up; default: `concurrency`, else 16."""
    extra_body: dict = field(default_factory=dict)
    """Fields added to each request's JSON, such as {"temperature": 0.0, "ignore_eos": True}."""
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 60.0
    """A request that hears nothing for so long has failed (`stalled`)."""
    request_timeout_s: float = 600.0
    """From sending to the last byte."""
    max_retries: int = 0
    """Resends after 429, 503 or a refused connection; counted on the request, which keeps its scheduled time."""
    retry_wait_s: float = 0.5
    """Before a resend, doubled each time, where the server gives no Retry-After."""
    abort_after_failures: int = 64
    """The load ends when the first so many requests that ended have all failed; the rest is recorded as not sent."""
    silence_timeout_s: float = 120.0
    """The client process is ended when it says nothing for so long; it says something every second."""
    keep_text: bool = False
    """Keep each answer's text, and its token ids where the server sends them, to compare the outputs of two engines."""
    max_failed_pct: float = 1.0
    """Above this share of failed requests the load is INVALID."""


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What became of one request."""

    request_id: str
    scheduled_ns: int
    """When it was due; in a closed loop when a slot became free."""
    ready_ns: int
    """When it was due and a slot was free: ready - scheduled is its queue time."""
    dispatched_ns: int
    """When the client got to it: dispatched - ready is the client's own send lag."""
    sent_ns: int | None
    """When its bytes went to the kernel; sent - dispatched is the time of connecting. None: never sent."""
    end_ns: int
    """When it was over, well or not."""
    chunk_times_ns: tuple[int, ...]
    """Arrival of each chunk that carried output."""
    chunk_tokens: tuple[int, ...]
    """Tokens of each chunk; all 1 where the server does not say."""
    prompt_tokens: int
    """As planned; 0 where it was not known."""
    asked_tokens: int
    usage_prompt_tokens: int | None
    usage_output_tokens: int | None
    """What the server's `usage` says; None where it sent none."""
    failure: str | None
    """None, or the kind of failure, one of harness.client.failures.FAILURES."""
    detail: str = ""
    """What the failure said, cut to a line."""
    notes: tuple[str, ...] = ()
    """Oddities that are no failure, of harness.client.failures.NOTES."""
    attempts: int = 1
    stamps_ns: tuple[int, ...] = ()
    """The server's own monotonic clock at each chunk, where it sends one (the bundled mock does)."""
    received_ns: int | None = None
    """The server's own clock when it had the request (the bundled mock)."""
    text: str | None = None
    token_ids: tuple[int, ...] = ()
    """Of the answer, with `keep_text` and where the server sends them (`return_token_ids`)."""
    finish_reason: str | None = None
    is_warmup: bool = False

    @property
    def output_tokens(self) -> int:
        """`usage` where the server sent it, else the tokens that were seen."""
        return sum(self.chunk_tokens) if self.usage_output_tokens is None else self.usage_output_tokens


@dataclass(frozen=True, slots=True)
class ClientOverhead:
    """What the client itself cost while it measured."""

    wall_s: float
    cpu_s: float
    """CPU seconds of the client process from the first request to the last answer."""
    parse_s: float
    """Seconds inside the functions that take bytes from the socket."""
    num_chunks: int
    num_bytes: int
    loop_lag_ms: tuple[float, ...]
    """Lateness of a timer every 20 ms: how late a time stamp can be."""
    peak_rss_bytes: int
    start_rss_bytes: int
    """Resident memory when the first request was sent."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Everything that one load left; outcomes stay on disk and are read one by one."""

    endpoint: Endpoint
    options: ClientOptions
    outcomes_path: Path
    """One JSON object a request, in order of ending; see `outcomes`."""
    num_planned: int
    num_not_sent: int
    """Planned and never sent, since the load was aborted."""
    start_ns: int
    """Time 0 of the schedule."""
    end_ns: int
    overhead: ClientOverhead
    is_closed_loop: bool

    def outcomes(self, *, warmup: Literal["leave out", "only"] = "leave out") -> Iterator[RequestOutcome]:
        """The requests' outcomes, read from disk one by one."""
        from harness.client.outcomes import read_outcomes

        wanted = warmup == "only"
        return (outcome for outcome in read_outcomes(self.outcomes_path) if outcome.is_warmup is wanted)
