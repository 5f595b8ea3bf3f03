"""Planned requests on disk: written by the parent, read one by one by the client, so that memory stays bounded.

Each is one line of JSON (id, due time, lengths) and then the bytes of the request's body, ready to send.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from harness.client.types import Endpoint
from harness.errors import UsageError
from harness.workload.planned import PlannedRequest

NS = 1e9


@dataclass(frozen=True, slots=True)
class ReadyRequest:
    """A request whose body is made."""

    request_id: str
    scheduled_ns: int | None
    """After the start; None in a closed loop."""
    prompt_tokens: int
    asked_tokens: int
    body: bytes


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan file holds."""

    num_requests: int
    is_closed_loop: bool


def write_plan(path: Path, planned: Iterable[PlannedRequest], endpoint: Endpoint, extra_body: dict) -> PlanSummary:
    """Write every request. Raises UsageError where a request has no prompt in the form that the API takes."""
    count, closed, last = 0, False, 0.0
    with path.open("wb", buffering=1 << 20) as file:
        for request in planned:
            if count == 0:
                closed = request.scheduled_s is None
            elif (request.scheduled_s is None) is not closed:
                raise UsageError(f"{request.request_id}: a load has times for all of its requests or for none; plan it anew")
            if not closed:
                if not last <= request.scheduled_s < float("inf"):
                    got = f"got {request.scheduled_s} after {last}"
                    raise UsageError(f"{request.request_id}: scheduled_s must not fall ({got}); sort the requests")
                last = request.scheduled_s
            _write(file, request, request_body(request, endpoint, extra_body))
            count += 1
    return PlanSummary(count, closed)


def _write(file: BinaryIO, request: PlannedRequest, body: bytes) -> None:
    due = None if request.scheduled_s is None else round(request.scheduled_s * NS)
    head = [request.request_id, due, request.prompt_tokens, request.output_tokens, len(body)]
    file.write(orjson.dumps(head) + b"\n" + body)


def request_body(request: PlannedRequest, endpoint: Endpoint, extra_body: dict) -> bytes:
    """The JSON of one request of either API."""
    body = {"model": endpoint.model, "stream": True, "stream_options": {"include_usage": True}}
    if endpoint.api == "chat":
        if request.prompt_text is None:
            raise UsageError(f"{request.request_id}: the chat API takes text; plan the requests with a tokenizer's `decode`")
        body["messages"] = [{"role": "user", "content": request.prompt_text}]
    elif request.prompt_tokens:
        body["prompt"] = list(request.prompt_ids)
    elif request.prompt_text is not None:
        body["prompt"] = request.prompt_text
    else:
        raise UsageError(f"{request.request_id}: has no prompt; give token ids or text")
    body["max_tokens"] = request.output_tokens
    if request.seed is not None:
        body["seed"] = request.seed
    return orjson.dumps(body | extra_body)


class PlanReader:
    """The requests of a plan file, one after another."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=1 << 18)

    def next(self) -> ReadyRequest | None:
        """The next request; None at the end."""
        line = self._file.readline()
        if not line:
            return None
        request_id, due, prompt, asked, size = orjson.loads(line)
        return ReadyRequest(request_id, due, prompt, asked, self._file.read(size))

    def close(self) -> None:
        self._file.close()
