"""One answer as it streams in: events of either API -> chunk times, tokens a chunk, usage, failure.

A chunk counts as output when it holds text, reasoning or tool-call text, or token ids; a completion's chunk without text
but without an end counts too (a token whose character is not whole yet), a chat's role chunk does not. Tokens of a
chunk are taken from, in this order: its cumulative `usage`, its `token_ids`, its log-probabilities; else they are 1.
"""

import orjson

DONE = b"[DONE]"


class Answer:
    """Collects one stream; `feed` may be called with one event or several that came at the same time."""

    __slots__ = (
        "chunk_times_ns", "chunk_tokens", "detail", "failure", "finish_reason", "is_done", "model", "received_ns",
        "stamps_ns", "text", "token_ids", "usage_output_tokens", "usage_prompt_tokens", "_seen_usage",
    )  # fmt: skip

    def __init__(self, *, keep_text: bool) -> None:
        self.chunk_times_ns: list[int] = []
        self.chunk_tokens: list[int] = []
        self.stamps_ns: list[int] = []
        self.text: list[str] | None = [] if keep_text else None
        self.token_ids: list[int] = []
        self.failure = self.finish_reason = self.model = self.received_ns = None
        self.usage_prompt_tokens = self.usage_output_tokens = None
        self.detail = ""
        self.is_done = False
        self._seen_usage = 0

    def feed(self, payload: bytes, now_ns: int) -> None:
        """Take one event that was complete at `now_ns`."""
        if payload == DONE:
            self.is_done = True
            return
        try:
            event = orjson.loads(payload)
        except ValueError:
            self._fail("bad_json", payload[:200].decode(errors="replace"))
            return
        if not isinstance(event, dict) or "error" in event or event.get("object") == "error":
            self._fail("server_error", payload[:200].decode(errors="replace"))
            return
        try:
            self._take(event, now_ns)
        except (AttributeError, KeyError, TypeError):  # JSON, but not of the API's shape
            self._fail("bad_json", payload[:200].decode(errors="replace"))

    def _take(self, event: dict, now_ns: int) -> None:
        usage, choices = event.get("usage"), event.get("choices")
        if usage:
            self.usage_prompt_tokens = _count(usage.get("prompt_tokens", self.usage_prompt_tokens))
            self.usage_output_tokens = _count(usage.get("completion_tokens", self.usage_output_tokens))
        if not choices:
            return
        choice = choices[0]
        if self.model is None:
            self.model = event.get("model")
        text, is_output = _output(choice)
        reason = choice.get("finish_reason")
        if reason is not None:
            self.finish_reason = str(reason)
        if is_output:
            self.chunk_tokens.append(self._num_tokens(choice, usage))
            self.chunk_times_ns.append(now_ns)
            self._keep(event, choice, text)

    def _keep(self, event: dict, choice: dict, text: str) -> None:
        stamp = event.get("stamp_ns")
        if stamp is not None:
            self.stamps_ns.append(_count(stamp))
            self.received_ns = _count(event.get("received_ns", self.received_ns))
        if self.text is not None:
            self.text.append(text)
            self.token_ids += [_count(token) for token in choice.get("token_ids") or ()]

    def _num_tokens(self, choice: dict, usage: dict | None) -> int:
        if usage:
            total = usage.get("completion_tokens") or 0
            count, self._seen_usage = total - self._seen_usage, total
            return max(count, 1)
        token_ids = choice.get("token_ids")
        if token_ids:
            return len(token_ids)
        logprobs = choice.get("logprobs")
        if logprobs:
            return max(len(logprobs.get("tokens") or logprobs.get("content") or ()), 1)
        return 1

    def _fail(self, kind: str, detail: str) -> None:
        if self.failure is None:
            self.failure, self.detail = kind, detail


def _count(value: int | None) -> int | None:
    """A count that a server sent; TypeError where it is none."""
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise TypeError(f"not a count: {value!r}")


def _output(choice: dict) -> tuple[str, bool]:
    """(text, whether the chunk carries output)."""
    text = choice.get("text")
    if text is not None:
        if type(text) is not str:
            raise TypeError(f"not a text: {text!r}")
        return text, bool(text) or choice.get("finish_reason") is None or bool(choice.get("token_ids"))
    delta = choice.get("delta") or {}
    text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""
    if type(text) is not str:
        raise TypeError(f"not a text: {text!r}")
    if text or delta.get("tool_calls") or choice.get("token_ids"):
        return text, True
    return "", "content" in delta and "role" not in delta and choice.get("finish_reason") is None
