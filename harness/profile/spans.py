"""What every profiler's output becomes: named spans of host time, kernels, and how much of the kernels was seen.

In: nothing. Out: the data classes. Times are nanoseconds on the source's own clock; only differences are compared across
sources. A source that did not look for kernels has `kernels` None and says why in `no_kernels`; it is never an empty list.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

MIN_KERNEL_SHARE = 0.98
"""Launches whose kernel must be in the trace for its GPU columns to count; the rest is lost at the window's edges."""


@dataclass(frozen=True, slots=True)
class Span:
    """One range on one thread."""

    name: str
    start_ns: int
    end_ns: int
    thread: int = 0
    payload: dict = field(default_factory=dict)

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, copy or fill on the GPU; `launch_ns` is when the host asked for it, None where that was not seen."""

    name: str
    start_ns: int
    end_ns: int
    launch_ns: int | None
    stream: int = 0
    graph_launch: int | None = None
    """Which launch of a CUDA graph it came from; None for a kernel launched by itself."""
    is_copy: bool = False
    """A copy or a fill: GPU time like any other, but no proof that kernels were seen."""

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Trace:
    """One source's view of one process."""

    source: str
    spans: tuple[Span, ...]
    kernels: tuple[Kernel, ...] | None
    num_launches: int
    """Launches that the host made, graphs counted once."""
    no_kernels: str = ""
    notes: tuple[str, ...] = ()

    @property
    def missing_kernels(self) -> str | None:
        """Why the GPU columns cannot be taken from here; None when they can."""
        if self.kernels is None:
            return self.no_kernels
        if self.num_launches == 0:
            return f"{self.source}: no kernel was launched in the trace"
        seen = len(launches_of(self.kernels))
        if seen >= MIN_KERNEL_SHARE * self.num_launches:
            return None
        return (
            f"{self.source}: kernel rows are missing: {seen} of {self.num_launches} launches have theirs. Its CUPTI is older "
            "than the driver, most often; take a newer nsys, or the kernels from the torch profiler"
        )


def launches_of(kernels: Iterable[Kernel]) -> set[int]:
    """When kernels were launched, a graph's once; copies left out."""
    return {kernel.launch_ns for kernel in kernels if kernel.launch_ns is not None and not kernel.is_copy}


def apart(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """In the order of their starts, each with the time that it added to the GPU's: from where the ones before it left off.

    Launches overlap: with programmatic dependent launch a kernel starts while the one before it runs, and waits inside. Sums of
    durations then count that time twice (a decode step of 11.6 ms has 16.8 ms of kernels on an H100); these add up to the time
    in which the GPU was busy. One that ended before its predecessor did has no time of its own.
    """
    found, busy_until = [], None
    for kernel in sorted(kernels, key=lambda kernel: (kernel.start_ns, kernel.end_ns)):
        start = kernel.start_ns if busy_until is None else max(kernel.start_ns, busy_until)
        end = max(start, kernel.end_ns)
        found.append(replace(kernel, start_ns=start, end_ns=end))
        busy_until = end
    return tuple(found)
