"""One HTTP request's sequences: handed to the engine's thread, followed until they end, cancelled when nobody waits.

In: prompts as ids and how to go on. Out: an async stream of `Piece`s. Admission is here: a request that would wait behind
more than `max_waiting` others is refused.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from harness.serve.engine_thread import EngineThread
from harness.serve.errors import ApiError, bad_request, engine_failed, server_full, shutting_down, too_long
from harness.serve.jobs import GenerationSpec, JobFailed, Scores, TokenEvent
from harness.serve.metrics import ServerMetrics
from harness.serve.stops import StopWatch
from harness.serve.text import Codec


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes at once."""

    max_slots: int
    max_waiting: int
    max_context: int
    vocab_size: int
    eos_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added to answer `index`; `finish_reason` on the last."""

    index: int
    text: str
    token_id: int
    finish_reason: str | None


@dataclass(slots=True)
class _Answer:
    """One sequence under way."""

    index: int
    spec: GenerationSpec
    pieces: object
    stops: StopWatch
    start_ns: int
    last_ns: int = 0
    ids: list[int] = field(default_factory=list)


class Generator:
    """Everything that handlers need to generate and to score."""

    def __init__(self, thread: EngineThread, codec: Codec | None, limits: Limits, metrics: ServerMetrics) -> None:
        self.codec, self.limits, self.metrics = codec, limits, metrics
        self._thread = thread
        self._num_active = 0
        self.is_stopping = False

    @property
    def failure(self) -> Exception | None:
        """Why the engine ended, None while it works."""
        return self._thread.failure

    def check(self, ids: list[int], max_new: int) -> None:
        """ApiError where a prompt can never be served."""
        if not ids:
            raise bad_request("prompt: must have at least one token (got none)", param="prompt")
        if max(ids) >= self.limits.vocab_size:
            message = f"prompt: token ids must be below {self.limits.vocab_size} (got {max(ids)}); use this model's tokenizer"
            raise bad_request(message, param="prompt")
        if len(ids) + max_new > self.limits.max_context:
            raise too_long(len(ids), max_new, self.limits.max_context)

    def _admit(self, count: int) -> None:
        if self.is_stopping:
            raise shutting_down()
        if self.failure is not None:
            raise engine_failed(str(self.failure))
        if self._num_active + count > self.limits.max_slots + self.limits.max_waiting:
            raise server_full(self._num_active)

    async def run(self, specs: list[GenerationSpec], stops: tuple[str, ...] = ()) -> AsyncIterator[Piece]:
        """Pieces of all sequences as they come; leaving early cancels what is left."""
        self._admit(len(specs))
        queue: asyncio.Queue[TokenEvent | JobFailed] = asyncio.Queue()
        answers = {spec.job_id: self._answer(index, spec, stops) for index, spec in enumerate(specs)}
        self._count(len(specs))
        try:
            for answer in answers.values():
                self._thread.submit(answer.spec, queue.put_nowait)
                self.metrics.prompt_tokens.inc(len(answer.spec.prompt_ids))
            while answers:
                event = await queue.get()
                if event.job_id not in answers:
                    continue  # tokens of a sequence that a stop text ended already
                if isinstance(event, JobFailed):
                    raise as_api_error(event.error)
                piece = self._take(answers[event.job_id], event)
                if piece.finish_reason is not None:
                    self._end(answers.pop(event.job_id), piece.finish_reason, is_running=not event.is_last)
                yield piece
        finally:
            for answer in answers.values():
                self._end(answer, "cancelled", is_running=True)

    async def score(self, ids: list[int], num_top: int) -> Scores:
        """Log-probabilities of given tokens."""
        try:
            return await self._thread.score(ids, num_top)
        except Exception as error:
            raise as_api_error(error) from error

    def _answer(self, index: int, spec: GenerationSpec, stops: tuple[str, ...]) -> _Answer:
        pieces = None if self.codec is None else self.codec.pieces()
        return _Answer(index, spec, pieces, StopWatch(stops), time.perf_counter_ns())

    def _take(self, answer: _Answer, event: TokenEvent) -> Piece:
        self._observe(answer, event)
        answer.ids.append(event.token_id)
        reason = None
        if event.is_last:
            is_eos = not answer.spec.ignore_eos and event.token_id in self.limits.eos_ids
            reason = "stop" if is_eos else "length"
        text = "" if answer.pieces is None else answer.stops.add(answer.pieces.add(event.token_id))
        if event.is_last and answer.pieces is not None:
            text += answer.stops.add(answer.pieces.rest()) + answer.stops.rest()
        return Piece(answer.index, text, event.token_id, "stop" if answer.stops.is_met else reason)

    def _observe(self, answer: _Answer, event: TokenEvent) -> None:
        if answer.last_ns:
            self.metrics.itl.observe((event.time_ns - answer.last_ns) / 1e9)
        else:
            self.metrics.ttft.observe((event.time_ns - answer.start_ns) / 1e9)
        answer.last_ns = event.time_ns
        self.metrics.output_tokens.inc()

    def _end(self, answer: _Answer, reason: str, *, is_running: bool) -> None:
        if is_running:
            self._thread.cancel(answer.spec.job_id)
        if answer.last_ns and reason != "cancelled":
            self.metrics.e2el.observe((answer.last_ns - answer.start_ns) / 1e9)
        self.metrics.finished(reason)
        self._count(-1)

    def _count(self, change: int) -> None:
        self._num_active += change
        self.metrics.running.set(min(self._num_active, self.limits.max_slots))
        self.metrics.waiting.set(max(0, self._num_active - self.limits.max_slots))


def as_api_error(error: Exception) -> ApiError:
    """An exception of the engine's thread as an answer."""
    return error if isinstance(error, ApiError) else engine_failed(f"{type(error).__name__}: {error}")
