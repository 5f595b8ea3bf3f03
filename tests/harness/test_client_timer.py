"""The client's timer: on time, movable, and quiet when it was moved between its expiry and the call."""

import asyncio
from time import monotonic_ns

import uvloop

from harness.client.timer import Timer

MS = 1_000_000


def calls_of(plan, wait_s: float) -> list[float]:
    """Milliseconds after the start of each call, for a plan(timer, start) of settings."""

    async def run() -> list[float]:
        start, calls = monotonic_ns(), []
        timer = Timer(asyncio.get_running_loop(), lambda: calls.append((monotonic_ns() - start) / MS))
        await plan(timer, start)
        await asyncio.sleep(wait_s)
        timer.close()
        return calls

    return uvloop.run(run())


def test_called_once_and_not_before_its_time():
    async def plan(timer, start):
        timer.set(start + 20 * MS)

    calls = calls_of(plan, 0.08)
    assert len(calls) == 1 and calls[0] >= 20.0


def test_a_time_that_has_passed_is_called_at_once():
    async def plan(timer, start):
        timer.set(start - 5 * MS)

    assert len(calls_of(plan, 0.05)) == 1


def test_setting_again_moves_it():
    async def plan(timer, start):
        timer.set(start + 10 * MS)
        timer.set(start + 40 * MS)

    calls = calls_of(plan, 0.1)
    assert len(calls) == 1 and calls[0] >= 40.0


def test_moved_after_it_expired_but_before_it_was_called():
    async def plan(timer, start):
        timer.set(start)
        timer._expired()  # as if the loop had seen the expiry, and the timer was then moved
        timer.set(start + 30 * MS)
        timer._expired()

    calls = calls_of(plan, 0.1)
    assert len(calls) == 2 and calls[1] >= 30.0
