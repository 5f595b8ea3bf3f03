"""One request in flight: its times, its answer so far, and the outcome that it ends in."""

from harness.client.answer import Answer
from harness.client.plan_file import ReadyRequest
from harness.client.sse import SseDecoder
from harness.client.types import Endpoint, RequestOutcome

DETAIL_CHARS = 200
MAX_EXTRA_TOKENS = {"completions": 1, "chat": 64}
"""Prompt tokens that a server may count beyond the planned ones: its begin-of-text token; a chat's template."""


class Call:
    """A request from the time it is dispatched until it has ended; a resend begins its answer anew."""

    __slots__ = (
        "answer", "attempts", "decoder", "dispatched_ns", "extra_notes", "heard_ns", "keep_text", "ready_ns", "request",
        "retry_after_s", "scheduled_ns", "sent_ns",
    )  # fmt: skip

    def __init__(self, request: ReadyRequest, *, scheduled_ns: int, ready_ns: int, dispatched_ns: int, keep_text: bool) -> None:
        self.request, self.keep_text = request, keep_text
        self.scheduled_ns, self.ready_ns, self.dispatched_ns = scheduled_ns, ready_ns, dispatched_ns
        self.attempts = 0
        self.extra_notes: list[str] = []
        self.begin_attempt()

    def begin_attempt(self) -> None:
        """Forget the answer of an earlier attempt; the times of the request stay."""
        self.attempts += 1
        self.answer, self.decoder = Answer(keep_text=self.keep_text), SseDecoder()
        self.sent_ns = self.heard_ns = self.retry_after_s = None

    def outcome(self, failure: str | None, detail: str, end_ns: int, *, endpoint: Endpoint, is_warmup: bool) -> RequestOutcome:
        """What became of it; an answer without a token is a failure."""
        answer = self.answer
        if failure is None:
            failure, detail = answer.failure, answer.detail
        if failure is None and not answer.chunk_times_ns:
            failure, detail = "no_tokens", f"finish_reason {answer.finish_reason!r}"
        text = None if answer.text is None else "".join(answer.text)
        return RequestOutcome(
            self.request.request_id,
            self.scheduled_ns,
            self.ready_ns,
            self.dispatched_ns,
            self.sent_ns,
            end_ns,
            tuple(answer.chunk_times_ns),
            tuple(answer.chunk_tokens),
            self.request.prompt_tokens,
            self.request.asked_tokens,
            answer.usage_prompt_tokens,
            answer.usage_output_tokens,
            failure,
            " ".join(detail.split())[:DETAIL_CHARS],
            notes=(*self.extra_notes, *(() if failure else self._notes(endpoint, text))),
            attempts=self.attempts,
            stamps_ns=tuple(answer.stamps_ns),
            received_ns=answer.received_ns,
            text=text,
            token_ids=tuple(answer.token_ids),
            finish_reason=answer.finish_reason,
            is_warmup=is_warmup,
        )

    def _notes(self, endpoint: Endpoint, text: str | None) -> list[str]:
        answer, asked = self.answer, self.request.asked_tokens
        seen, used = sum(answer.chunk_tokens), answer.usage_output_tokens
        output = seen if used is None else used
        found = {
            "missing_usage": used is None,
            "tokens_merged": used is not None and seen < used,
            "short_output": output < asked,
            "long_output": output > asked,
            "other_model": answer.model is not None and answer.model != endpoint.model,
            "no_done": not answer.is_done,
            "prompt_tokens_differ": self._prompt_differs(MAX_EXTRA_TOKENS[endpoint.api]),
            "replacement_chars": text is not None and "\ufffd" in text,
        }
        return [name for name, is_so in found.items() if is_so]

    def _prompt_differs(self, most: int) -> bool:
        planned, used = self.request.prompt_tokens, self.answer.usage_prompt_tokens
        return bool(planned) and used is not None and not 0 <= used - planned <= most
