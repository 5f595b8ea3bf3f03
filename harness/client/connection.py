"""One HTTP connection: raw asyncio protocol, httptools under it, one request at a time, kept alive.

Every byte is stamped when the loop hands it over, before anything is parsed.
"""

import asyncio
from time import monotonic_ns

import httptools

from harness.client.call import Call
from harness.client.failures import failure_of_status

ERROR_BODY_BYTES = 4096


class Connection(asyncio.Protocol):
    """Sends a call and feeds its answer; tells `owner` when it is over."""

    def __init__(self, owner) -> None:
        self.owner = owner
        self.call: Call | None = None
        self.transport = None
        self.is_closed = False
        self._parser = httptools.HttpResponseParser(self)
        self._num_sent = 0
        self._now_ns = 0
        self._reset()

    def _reset(self) -> None:
        self._status, self._content_type, self._is_whole, self._keeps_alive = 0, "", False, False
        self._error_body = b""

    def send(self, call: Call, data: bytes) -> None:
        """Send a request; the connection must be idle."""
        self._reset()
        self.call = call
        self._num_sent += 1
        self.transport.write(data)
        call.sent_ns = call.heard_ns = monotonic_ns()

    def close(self) -> None:
        """Drop the connection; its call, if any, is no longer its own."""
        self.is_closed, self.call = True, None
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol
    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        now = self._now_ns = monotonic_ns()
        call, owner = self.call, self.owner
        if call is None:
            self.close()  # nobody asked
            return
        call.heard_ns = now
        failure = detail = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            failure, detail = "bad_http", data[:80].decode(errors="replace")
        owner.num_bytes += len(data)
        owner.parse_ns += monotonic_ns() - now
        if failure or call.answer.failure:
            self.close()
            owner.ended(call, failure, detail or "")
        elif self._is_whole:
            self._finish(call)

    def connection_lost(self, error) -> None:
        call, is_whole = self.call, self._is_until_close
        self.is_closed, self.call = True, None
        if call is None:
            return
        if is_whole:
            self.owner.ended(call, *self._failure())
        elif call.heard_ns == call.sent_ns and self._num_sent > 1:
            self.owner.resend_stale(call)
        else:
            self.owner.ended(call, "disconnected", f"{error or 'closed'} after {len(call.answer.chunk_times_ns)} chunks")

    # httptools
    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value.decode("latin-1").lower()
        elif name == b"retry-after" and self.call is not None:
            self.call.retry_after_s = _seconds(value)

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._status != 200 or "text/event-stream" not in self._content_type:
            if len(self._error_body) < ERROR_BODY_BYTES:
                self._error_body += body
            return
        call = self.call
        answer, now = call.answer, self._now_ns
        for payload in call.decoder.feed(body):
            answer.feed(payload, now)

    def on_message_complete(self) -> None:
        self._is_whole, self._keeps_alive = True, self._parser.should_keep_alive()  # forgotten after this call

    def _finish(self, call: Call) -> None:
        self.call = None
        if self._keeps_alive:
            self.owner.give_back(self)
        else:
            self.close()
        self.owner.ended(call, *self._failure())

    def _failure(self) -> tuple[str | None, str]:
        body = self._error_body.decode(errors="replace")
        if self._status != 200:
            return failure_of_status(self._status, body), f"HTTP {self._status}: {body}"
        if "text/event-stream" in self._content_type:
            return None, ""
        return ("html_answer" if body.lstrip()[:1] == "<" else "no_stream"), f"{self._content_type or 'no type'}: {body}"

    @property
    def _is_until_close(self) -> bool:
        """An answer without a length ends with its connection; a stream is whole then if it said [DONE]."""
        if self.call is None or self._status == 0:
            return False
        is_stream = self._status == 200 and "text/event-stream" in self._content_type
        return self._is_whole or not is_stream or self.call.answer.is_done


def _seconds(value: bytes) -> float | None:
    try:
        return max(float(value), 0.0)
    except ValueError:
        return None  # an HTTP date; the client's own wait is taken
