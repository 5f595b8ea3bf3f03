"""The client's loop: send each request when it is due and a slot is free, see that all end, write what became of them.

In: two plan files (warm-up, load). Out: a file of outcomes, and what the client itself cost. Memory is that of the
requests in flight. Latency counts from `scheduled_ns`, whatever happens in between.
"""

import asyncio
import errno
import resource
from pathlib import Path
from time import monotonic_ns

from harness.client.call import Call
from harness.client.connection import Connection
from harness.client.failures import RETRIED
from harness.client.lag import LoopLag
from harness.client.outcomes import OutcomeWriter
from harness.client.plan_file import PlanReader, ReadyRequest
from harness.client.pool import Address, Pool
from harness.client.timer import Timer
from harness.client.types import ClientOptions, ClientOverhead, Endpoint
from harness.collect.memory import peak_rss_bytes, rss_bytes

HOPELESS = ("unreachable", "wrong_model", "html_answer", "no_stream", "bad_http", "http_4xx")
"""Failures that sending on cannot cure."""
OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)
START_DELAY_NS = 2_000_000
SWEEP_S = 0.1
TIMER_EARLY_S = 0.001
"""uvloop's timers count whole milliseconds and can fire that much early; a server's Retry-After is never undercut."""
MAX_PRECONNECTED = 256
DONE_GRACE_NS = 1_000_000_000
"""After [DONE] the end of the HTTP message is waited for no longer than this."""


class Load:
    """Runs phases, one after another, over one pool of connections."""

    def __init__(self, endpoint: Endpoint, options: ClientOptions, outcomes: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint, self.options = endpoint, options
        self.address = Address(endpoint.url, endpoint.api, endpoint.headers)
        self.pool = Pool(self.address, self, options.connect_timeout_s)
        self.num_sent = self.num_ended = self.num_failed = self.num_bytes = self.num_chunks = self.parse_ns = 0
        self.start_ns = self.end_ns = 0
        self._writer = OutcomeWriter(outcomes)
        self._calls: set[Call] = set()
        self._tasks: set[asyncio.Task] = set()
        self._timer = Timer(self.loop, self._pump)
        self._lag = LoopLag(self.loop)
        self._is_warmup = True

    async def warm_up(self, plan: Path, concurrency: int) -> None:
        """Send the warm-up requests as a closed loop and wait until all have ended."""
        await self._phase(plan, concurrency, is_closed=True, is_warmup=True)

    async def measure(self, plan: Path, *, is_closed: bool) -> ClientOverhead:
        """Send the load and wait until all have ended."""
        self.num_sent = self.num_ended = self.num_failed = self.num_bytes = self.num_chunks = self.parse_ns = 0
        start_rss, cpu_s = rss_bytes(), _cpu_s()
        self._lag.start()
        await self._phase(plan, self.options.concurrency, is_closed=is_closed, is_warmup=False)
        return ClientOverhead(
            wall_s=(self.end_ns - self.start_ns) / 1e9,
            cpu_s=_cpu_s() - cpu_s,
            parse_s=self.parse_ns / 1e9,
            num_chunks=self.num_chunks,
            num_bytes=self.num_bytes,
            loop_lag_ms=self._lag.stop(),
            peak_rss_bytes=peak_rss_bytes(),
            start_rss_bytes=start_rss,
        )

    def close(self) -> None:
        """Drop connections and close the file of outcomes."""
        self._timer.close()
        self.pool.close()
        self._writer.close()

    async def _phase(self, plan: Path, concurrency: int | None, *, is_closed: bool, is_warmup: bool) -> None:
        self._reader, self._is_closed, self._is_warmup = PlanReader(plan), is_closed, is_warmup
        self._concurrency = concurrency if concurrency is not None else float("inf")
        await self.pool.open(int(min(self._concurrency, MAX_PRECONNECTED)) if is_closed else 1)
        self._over = asyncio.Event()
        self._aborted = False
        self.start_ns = self._slot_free_ns = monotonic_ns() + START_DELAY_NS
        self._next = self._reader.next()
        sweeper = self._task(self._sweep())
        self._timer.set(self.start_ns)
        await self._over.wait()
        sweeper.cancel()
        self.end_ns = monotonic_ns()
        self._reader.close()

    def _pump(self) -> None:
        """Dispatch whatever is due and has a slot; set the timer for the next."""
        while self._next is not None and len(self._calls) < self._concurrency:
            now = monotonic_ns()
            if self._is_closed:
                due = ready = self._slot_free_ns
            else:
                due = self.start_ns + self._next.scheduled_ns
                ready = max(due, self._slot_free_ns)
                if due > now:
                    self._timer.set(due)
                    return
            request, self._next = self._next, self._reader.next()
            self._dispatch(request, due, ready, now)
        if self._next is None and not self._calls:
            self._over.set()

    def _dispatch(self, request: ReadyRequest, scheduled_ns: int, ready_ns: int, now_ns: int) -> None:
        keep_text = self.options.keep_text
        call = Call(request, scheduled_ns=scheduled_ns, ready_ns=ready_ns, dispatched_ns=now_ns, keep_text=keep_text)
        self._calls.add(call)
        self.num_sent += 1
        self._send(call)

    def _send(self, call: Call) -> None:
        connection = self.pool.take()
        if connection is not None:
            connection.send(call, self.address.request(call.request.body))
            return
        self._task(self._connect_and_send(call))

    def _task(self, coroutine) -> asyncio.Task:
        """A task whose fault is heard of at once."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.loop.call_exception_handler({"message": "a task of the client failed", "exception": task.exception()})

    async def _connect_and_send(self, call: Call) -> None:
        try:
            connection = await self.pool.connect()
        except OSError as error:  # TimeoutError and socket.gaierror are OSErrors too
            kind = "client_limit" if error.errno in OWN_LIMITS else "unreachable"
            self.ended(call, kind, f"{self.endpoint.url}: {error}")
            return
        connection.send(call, self.address.request(call.request.body))

    # Told by connections
    def give_back(self, connection: Connection) -> None:
        """A connection is idle again."""
        self.pool.give_back(connection)

    def resend_stale(self, call: Call) -> None:
        """The server had closed an idle connection when the request went out; it has not seen it."""
        if "stale_connection" in call.extra_notes:
            self.ended(call, "disconnected", "closed before the answer began, twice")
            return
        call.extra_notes.append("stale_connection")
        call.begin_attempt()
        self._send(call)

    def ended(self, call: Call, failure: str | None, detail: str) -> None:
        """A call is over; write its outcome, or send it again where the options say so."""
        if call not in self._calls:
            return
        now = monotonic_ns()
        outcome = call.outcome(failure, detail, now, endpoint=self.endpoint, is_warmup=self._is_warmup)
        if outcome.failure is not None and self._may_retry(call, outcome):
            return
        if len(self._calls) >= self._concurrency:  # else no request waits for this slot
            self._slot_free_ns = now
        self._calls.discard(call)
        self._writer.add(outcome)
        self.num_ended += 1
        self.num_chunks += len(outcome.chunk_times_ns)
        if outcome.failure is not None:
            self.num_failed += 1
            hopeless = outcome.failure in HOPELESS and self.num_failed == self.num_ended >= self.options.abort_after_failures
            self._next = None if hopeless else self._next
        self._pump()

    def _may_retry(self, call: Call, outcome) -> bool:
        kind = "http_503" if outcome.detail.startswith("HTTP 503") else outcome.failure
        if kind not in RETRIED or call.attempts > self.options.max_retries:
            return False
        wait_s = self.options.retry_wait_s * 2 ** (call.attempts - 1) if call.retry_after_s is None else call.retry_after_s
        call.begin_attempt()
        self.loop.call_later(min(wait_s, self.options.request_timeout_s) + TIMER_EARLY_S, self._send, call)
        return True

    async def _sweep(self) -> None:
        """Find calls that went silent or take too long."""
        stall_ns, limit_ns = int(self.options.stall_timeout_s * 1e9), int(self.options.request_timeout_s * 1e9)
        while True:
            await asyncio.sleep(min(SWEEP_S, self.options.stall_timeout_s / 4))
            now = monotonic_ns()
            for connection in self.pool.busy():
                call = connection.call
                silent_ns, chunks = now - call.heard_ns, len(call.answer.chunk_times_ns)
                if call.answer.is_done and silent_ns > DONE_GRACE_NS:
                    failure, detail = None, ""
                elif silent_ns > stall_ns:
                    failure, detail = "stalled", f"nothing for {silent_ns / 1e9:.1f} s after {chunks} chunks"
                elif now - call.sent_ns > limit_ns:
                    failure, detail = "timeout", f"not over after {limit_ns / 1e9:g} s, {chunks} chunks"
                else:
                    continue
                connection.close()
                self.ended(call, failure, detail)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
