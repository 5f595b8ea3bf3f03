"""The mock's sockets: take in HTTP requests, answer /v1/models and /health at once, hand the others to a stream.

Raw asyncio protocol on uvloop. A connection serves one request at a time and is kept alive.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

import orjson

from harness.mock import answers
from harness.mock.faults import FAULTS, NO_FAULT
from harness.mock.options import MockOptions
from harness.mock.stream import Stream

STREAM_PATHS = {b"/v1/completions": False, b"/v1/chat/completions": True}
"""Path -> whether it is the chat API."""


@dataclass(slots=True)
class Stats:
    """What the server saw of its streams, told at /mock/stats: a yardstick for clients that do not read the stamps."""

    num_ended: int = 0
    num_tokens: int = 0
    first_received_ns: int = 0
    last_sent_ns: int = 0
    ttft_sum_ns: int = 0

    def began(self, received_ns: int, first_token_ns: int) -> None:
        """A stream sent its first token."""
        self.first_received_ns = self.first_received_ns or received_ns
        self.ttft_sum_ns += first_token_ns - received_ns

    def ended(self, num_tokens: int) -> None:
        """A stream sent its last token."""
        self.num_ended += 1
        self.num_tokens += num_tokens
        self.last_sent_ns = time.monotonic_ns()


class Server:
    """What all connections share: options, counters, the queue of requests that wait for a slot."""

    def __init__(self, options: MockOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.options, self.loop = options, loop
        self.num_requests = self.num_running = 0
        self.stats = Stats()
        self.waiting: deque[Stream] = deque()
        self.parts = {chat: answers.event_parts(chat=chat, model=options.model) for chat in (False, True)}
        self.role = answers.role_event(options.model)
        self.finish = {chat: answers.finish_event(chat=chat, model=options.model) for chat in (False, True)}
        self.usage_parts = answers.usage_parts(options.model)
        self.fault = FAULTS[options.fault] if options.fault else NO_FAULT

    def fault_of(self, index: int):
        """The fault of the index-th request."""
        return self.fault if index % self.options.fault_every == 0 else NO_FAULT

    def start(self, stream: Stream) -> None:
        """Begin to answer, or wait for a slot."""
        if self.options.slots is not None and self.num_running >= self.options.slots:
            self.waiting.append(stream)
            return
        self.num_running += 1
        stream.begin()

    def ended(self) -> None:
        """A stream is over: the next one may begin."""
        self.num_running -= 1
        if self.waiting:
            self.start(self.waiting.popleft())


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self.server, self.transport, self.stream = server, None, None
        self._head: bytes | None = None
        self._parts: list[bytes] = []
        self._missing = self._num_answered = 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._watch(self._num_answered)

    def _watch(self, num_answered: int) -> None:
        """Close the connection when nothing has been asked since it was set idle."""
        limit = self.server.options.idle_timeout_s
        if limit is not None:
            self.server.loop.call_later(limit, self._close_if_idle, num_answered)

    def _close_if_idle(self, num_answered: int) -> None:
        if self.stream is None and self._num_answered == num_answered:
            self.transport.close()

    def answered(self) -> None:
        """The stream of this connection is over."""
        self.stream = None
        self._num_answered += 1
        self._watch(self._num_answered)

    def connection_lost(self, error) -> None:
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            data = b"".join([*self._parts, data])
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._parts = [data]
                return
            self._head, self._parts, data = data[:end], [], data[end + 4 :]
            self._missing = _content_length(self._head)
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            head, body = self._head, b"".join(self._parts)
            self._head, self._parts = None, []
            self._handle(head.split(b" ", 2)[1], body)

    def _handle(self, path: bytes, body: bytes) -> None:
        options = self.server.options
        if path == b"/mock/stats":
            self.transport.write(answers.whole(200, orjson.dumps(self.server.stats)))
            return
        if path not in STREAM_PATHS:
            models = {"object": "list", "data": [{"id": options.model, "object": "model"}]}
            known = path in (b"/v1/models", b"/health", b"/")
            self.transport.write(
                answers.whole(200, orjson.dumps(models)) if known else answers.error(404, f"no such path: {path.decode()}")
            )
            return
        received_ns = time.monotonic_ns()
        request = orjson.loads(body)
        index = self.server.num_requests
        self.server.num_requests += 1
        if index + 1 == options.freeze_after_requests:
            time.sleep(options.freeze_s)  # the whole server stands still
        fault = self.server.fault_of(index)
        if request.get("model") != options.model:
            self.transport.write(answers.error(404, f"The model `{request.get('model')}` does not exist."))
        elif fault.answer is not None:
            self.transport.write(fault.answer)
        else:
            self.stream = Stream(self, request, chat=STREAM_PATHS[path], fault=fault, received_ns=received_ns)
            self.server.start(self.stream)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
