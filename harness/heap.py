"""Python's heap set aside while something is timed.

A full collection of Python's garbage collector walks every object that the process holds: 170 000 once torch and the harness
are there, 53 to 63 ms on two CPU cores; 120 to 160 ms in a process that has loaded a model on an H100's host. Every request
waits for it. Frozen objects are not walked; what is made later is still collected, in no time. vLLM freezes its heap too when
its engine is ready.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def freeze_heap() -> None:
    """Collect once, then set aside all that lives, for as long as the process does."""
    gc.collect()
    gc.freeze()


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Set aside what is there at the start, garbage too; given back at the end, so that an engine given up then is collected.

    Takes microseconds. A collection here would leave the GPU idle between warm-up and pass: with .13 s of it first tokens on an
    H100 at its power cap came 1 to 8 % sooner (docs/decisions/0057-a-pass-without-collections.md).
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
