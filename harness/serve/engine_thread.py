"""The engine's own thread: takes jobs and cancellations between steps, hands tokens to the event loop.

In: `submit`, `cancel`, `score` from the loop's thread. Out: one call into the loop a step, which delivers the step's tokens
to the callbacks of their jobs. An engine that raises ends every job with that error, and `failure` says so from then on.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from harness.serve.errors import bad_request
from harness.serve.jobs import GenerationSpec, JobFailed, Scores, TokenEvent

Deliver = Callable[[TokenEvent | JobFailed], None]


class Steps(Protocol):
    """A step as the engine tells it."""

    phase: str
    start_ns: int
    end_ns: int
    num_tokens: int
    emitted: tuple[tuple[str, int], ...]
    finished: tuple[str, ...]


class ServedEngine(Protocol):
    """What a server needs of an engine; `harness.backends.native_engine` has ours. Called from one thread only."""

    has_work: bool

    def submit(self, spec: GenerationSpec) -> None: ...

    def cancel(self, job_id: str) -> None: ...

    def step(self) -> Steps: ...

    def score(self, ids: list[int], num_top: int) -> Scores: ...

    def is_refusal(self, error: Exception) -> bool: ...


class EngineThread:
    """Runs one engine. `start` and `stop` frame it; the other methods may be called from the loop's thread at any time."""

    def __init__(self, engine: ServedEngine, loop: asyncio.AbstractEventLoop, on_step: Callable[[Steps], None]) -> None:
        self._engine, self._loop, self._on_step = engine, loop, on_step
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._jobs: dict[str, Deliver] = {}
        self._is_stopping = False
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join()

    def submit(self, spec: GenerationSpec, deliver: Deliver) -> None:
        """Queue a job; what comes of it reaches `deliver` in the loop's thread."""
        self._command(lambda: self._submit(spec, deliver))

    def cancel(self, job_id: str) -> None:
        """Drop a job; nothing of it is delivered once this took effect. Unknown and ended jobs are ignored."""
        self._command(lambda: self._cancel(job_id))

    async def score(self, ids: list[int], num_top: int) -> Scores:
        """Log-probabilities of given tokens, computed between two steps; raises what the engine raised."""
        future: asyncio.Future = self._loop.create_future()
        self._command(lambda: self._score(ids, num_top, future))
        return await future

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._commands or self._has_work() or self._is_stopping):
                    self._wake.wait()
                if self._is_stopping:
                    return
                commands = list(self._commands)
                self._commands.clear()
            for command in commands:
                command()
            if self._has_work():
                self._step()

    def _has_work(self) -> bool:
        return self.failure is None and self._engine.has_work

    def _submit(self, spec: GenerationSpec, deliver: Deliver) -> None:
        try:
            if self.failure is not None:
                raise self.failure
            self._engine.submit(spec)
        except Exception as error:  # the boundary of the thread: whatever it was, its request must hear of it
            refused = bad_request(str(error)) if self._engine.is_refusal(error) else error
            self._post([(deliver, JobFailed(spec.job_id, refused))])
        else:
            self._jobs[spec.job_id] = deliver

    def _cancel(self, job_id: str) -> None:
        if self._jobs.pop(job_id, None) is not None and self.failure is None:
            self._engine.cancel(job_id)

    def _score(self, ids: list[int], num_top: int, future: asyncio.Future) -> None:
        try:
            scores = self._engine.score(ids, num_top)
        except Exception as error:  # as in _submit
            settle, value = future.set_exception, error
        else:
            settle, value = future.set_result, scores
        self._loop.call_soon_threadsafe(lambda: None if future.done() else settle(value))

    def _step(self) -> None:
        try:
            step = self._engine.step()
        except Exception as error:  # the engine's state is unknown from here on
            self.failure = error
            jobs, self._jobs = self._jobs, {}
            self._post([(deliver, JobFailed(job_id, error)) for job_id, deliver in jobs.items()])
            return
        ended, told = set(step.finished), []
        for job_id, token in step.emitted:
            deliver = self._jobs.pop(job_id) if job_id in ended else self._jobs[job_id]
            told.append((deliver, TokenEvent(job_id, token, step.end_ns, job_id in ended)))
        self._post(told, step)

    def _post(self, told: list[tuple[Deliver, TokenEvent | JobFailed]], step: Steps | None = None) -> None:
        self._loop.call_soon_threadsafe(self._deliver_all, told, step)

    def _deliver_all(self, told: list, step: Steps | None) -> None:
        if step is not None:
            self._on_step(step)
        for deliver, event in told:
            deliver(event)
