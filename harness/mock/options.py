"""How the mock server behaves: delays, capacity, faults."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MockOptions:
    """Delays are nominal; the stamps in the chunks say what they were."""

    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    model: str = "mock"
    slots: int | None = None
    """Requests answered at the same time; others wait their turn. None: no limit."""
    tokens_per_chunk: int = 1
    usage: Literal["final", "continuous", "none"] = "final"
    fault: str | None = None
    """A name of harness.mock.faults.FAULTS."""
    fault_every: int = 1
    """Each so many-th request gets the fault, beginning with the first."""
    freeze_after_requests: int | None = None
    """The whole server stops for `freeze_s` when it has taken in so many requests."""
    freeze_s: float = 2.0
    idle_timeout_s: float | None = None
    """An idle connection is closed after so long. None: never."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
