"""One answer of the mock: chunks written one by one, each stamped with the monotonic clock just before it is written."""

import time
from collections import deque

from harness.mock import answers
from harness.mock.faults import Fault

DEFAULT_TOKENS = 16
PIECE_BYTES = 7
"""Of a split chunk; odd, so that cuts fall inside frames, lines and characters."""


class Stream:
    """Writes the tokens of one request; ends as its fault says."""

    def __init__(self, connection, request: dict, *, chat: bool, fault: Fault, received_ns: int) -> None:
        self.connection, self.chat, self.fault = connection, chat, fault
        self.server = connection.server
        asked = request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_TOKENS
        self.num_tokens = int(asked * fault.keep)
        self.wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        self.prompt_tokens = _num_prompt_tokens(request)
        self.received_ns, self.sent = received_ns, 0
        self._handle = None
        self._pieces: deque[bytes] = deque()
        self._start_s = 0.0
        self._is_over = False

    def begin(self) -> None:
        """Send the head; the first token comes after the nominal TTFT."""
        if self._is_over:  # the client left while it waited for a slot
            self.server.ended()
            return
        loop, options = self.server.loop, self.server.options
        self._start_s = loop.time()
        self.connection.transport.write(answers.STREAM_HEAD)
        if self.chat:
            self._write(self.server.role)
        self._later(options.ttft_ms / 1e3)

    def cancel(self) -> None:
        """The client is gone."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self.server.ended()
        self._is_over = True

    def _later(self, at_s: float) -> None:
        loop = self.server.loop
        self._handle = loop.call_soon(self._step) if at_s == 0 else loop.call_at(self._start_s + at_s, self._step)

    def _step(self) -> None:
        options = self.server.options
        if self.sent < self.num_tokens:
            count = min(options.tokens_per_chunk, self.num_tokens - self.sent)
            self._write_tokens(count)
        if self.sent < self.num_tokens:
            chunks = self.sent / options.tokens_per_chunk
            delay_s = options.ttft_ms / 1e3 + chunks * options.itl_ms / 1e3
            self._later(delay_s if options.itl_ms else 0.0)
            return
        self._end()

    def _write_tokens(self, count: int) -> None:
        before, after = self.server.parts[self.chat]
        now = time.monotonic_ns()
        words = answers.WORDS if self.fault.split else answers.WORDS[:1]
        text = "".join(words[(self.sent + i) % len(words)] for i in range(count))
        extra = b""
        if self.sent == 0:
            extra += b', "received_ns": %d' % self.received_ns
            self.server.stats.began(self.received_ns, now)
        self.sent += count
        if self.server.options.usage == "continuous":
            extra += b', "usage": ' + answers.usage_of(self.prompt_tokens, self.sent)
        self._write(b'%b%b%b%b, "stamp_ns": %d}' % (before, text.encode(), after, extra, now))

    def _write(self, payload: bytes) -> None:
        self._send(answers.http_chunk(payload))

    def _send(self, data: bytes) -> None:
        if not self.fault.split:
            self.connection.transport.write(data)
            return
        self._pieces.extend(data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
        if len(self._pieces) == -(-len(data) // PIECE_BYTES):
            self._write_piece()

    def _write_piece(self) -> None:
        """One piece a turn of the loop: uvloop joins what is written in one turn."""
        self.connection.transport.write(self._pieces.popleft())
        if self._pieces:
            self.server.loop.call_soon(self._write_piece)

    def _end(self) -> None:
        self._handle = None
        self._is_over = True
        end = self.fault.end
        if end == "hang":
            return
        self.server.stats.ended(self.sent)
        self.connection.answered()
        self.server.ended()
        if end == "disconnect":
            self.connection.transport.close()
            return
        if end == "error_event":
            self._write(b'{"error": {"message": "engine died", "code": 500}}')
        elif end == "bad_json":
            self._write(b'{"choices": [{"text": "cut of')
        elif end == "finish":
            self._finish()
        self._send(answers.LAST_CHUNK)

    def _finish(self) -> None:
        """Reason of the end, usage where it was asked for, [DONE]."""
        server = self.server
        self._write(server.finish[self.chat])
        if self.wants_usage and self.fault.usage and server.options.usage != "none":
            before, after = server.usage_parts
            self._write(before + answers.usage_of(self.prompt_tokens, self.num_tokens) + after)
        self._write(b"[DONE]")


def _num_prompt_tokens(request: dict) -> int:
    prompt = request.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    text = prompt if isinstance(prompt, str) else " ".join(str(m.get("content")) for m in request.get("messages", []))
    return len(text.split())
