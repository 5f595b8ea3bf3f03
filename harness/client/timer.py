"""A timer of microseconds for uvloop, whose own timers have a resolution of a millisecond.

On Linux a timerfd that the loop watches; elsewhere the loop's own `call_at`. Times are `time.monotonic_ns`.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable

CLOCK_MONOTONIC, TFD_TIMER_ABSTIME = 1, 1  # linux/time.h, sys/timerfd.h
NS_PER_S = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: interval, then first expiry, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Timer:
    """Calls `action` once at the time that `set` names; setting it again moves it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop, self._action, self._handle, self._fd = loop, action, None, None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create failed")
            loop.add_reader(self._fd, self._expired)

    def set(self, at_ns: int) -> None:
        """Expire at `at_ns`, at once where that has passed."""
        if self._fd is None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_at(at_ns / NS_PER_S, self._action)
            return
        spec = _TimerSpec(0, 0, *divmod(max(at_ns, 1), NS_PER_S))
        if self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew between the expiry and this call
            return
        self._action()
