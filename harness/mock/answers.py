"""The bytes that the mock sends: HTTP heads, server-sent events of both APIs, whole answers.

A chunk of the stream is one HTTP chunk with one event, as vLLM and others send it, plus `stamp_ns`, which is set at the
very end. `{stamp}` stands in a template for it.
"""

import json

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
REASONS = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
WORDS = (" tok", " öß", " 漢字", " 🙂")
"""Texts of tokens: one to four bytes a character, so that a frame can be cut inside one."""


def whole(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    """A complete answer that is no stream."""
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def error(status: int, message: str, extra: str = "") -> bytes:
    """An error as vLLM words it."""
    return whole(status, json.dumps({"error": {"message": message, "code": status}}).encode(), extra=extra)


def http_chunk(payload: bytes) -> bytes:
    """One HTTP chunk that holds one event."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(payload) + 8, payload)


def event_parts(*, chat: bool, model: str) -> tuple[bytes, bytes]:
    """JSON of a chunk of one token up to its text, and from there on; stamp and closing brace are still to come."""
    mark = "@@"
    inner = {"delta": {"content": mark}} if chat else {"text": mark}
    choice = {"index": 0} | inner | {"logprobs": None, "finish_reason": None}
    kind = "chat.completion.chunk" if chat else "text_completion"
    text = json.dumps({"id": "mock", "object": kind, "created": 0, "model": model, "choices": [choice]})
    before, after = text[:-1].split(mark)
    return before.encode(), after.encode()


def role_event(model: str) -> bytes:
    """The first chunk of a chat, which carries a role and no output."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return json.dumps({"id": "mock", "object": "chat.completion.chunk", "model": model, "choices": [choice]}).encode()


def finish_event(*, chat: bool, model: str) -> bytes:
    """The chunk with the reason for the end and no output."""
    inner = {"delta": {}} if chat else {"text": ""}
    choice = {"index": 0} | inner | {"finish_reason": "length"}
    return json.dumps({"id": "mock", "object": "x", "model": model, "choices": [choice]}).encode()


def usage_parts(model: str) -> tuple[bytes, bytes]:
    """The last chunk before [DONE], where the request asked for usage, up to the usage and from there on."""
    text = json.dumps({"id": "mock", "object": "x", "model": model, "choices": [], "usage": "@@"})
    before, after = text.split('"@@"')
    return before.encode(), after.encode()


def usage_of(prompt_tokens: int, output_tokens: int) -> bytes:
    """OpenAI's usage object."""
    total = prompt_tokens + output_tokens
    return b'{"prompt_tokens": %d, "completion_tokens": %d, "total_tokens": %d}' % (prompt_tokens, output_tokens, total)
