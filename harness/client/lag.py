"""How late the client's loop is: a timer every 20 ms, and how long after its time it was called.

That is how late a time stamp can be. Kept as at most MAX_KEPT values: when full, every other one is dropped and the
stride doubles.
"""

import asyncio
from array import array
from time import monotonic_ns

from harness.client.timer import Timer

INTERVAL_NS = 20_000_000
MAX_KEPT = 32_768


class LoopLag:
    """Samples while started."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._timer = loop, None
        self._lags_ms = array("f")
        self._stride = self._seen = 0
        self._due_ns = 0

    def start(self) -> None:
        """Begin to sample."""
        self._lags_ms, self._stride, self._seen = array("f"), 1, 0
        self._timer = Timer(self._loop, self._expired)
        self._due_ns = monotonic_ns() + INTERVAL_NS
        self._timer.set(self._due_ns)

    def stop(self) -> tuple[float, ...]:
        """End, and give the lags in ms."""
        self._timer.close()
        return tuple(self._lags_ms)

    def _expired(self) -> None:
        now = monotonic_ns()
        if self._seen % self._stride == 0:
            self._lags_ms.append((now - self._due_ns) / 1e6)
        self._seen += 1
        if len(self._lags_ms) >= MAX_KEPT:
            self._lags_ms, self._stride = self._lags_ms[::2], self._stride * 2
        self._due_ns = max(self._due_ns + INTERVAL_NS, now)
        self._timer.set(self._due_ns)
