"""A decode step as the host's thread lives it: from the start of one launch to the start of the next.

In: the host's trace. Out: `HostStep`: how long that is, how much of it lies in named ranges, and in which. An engine that
launches ahead needs the range `decode step` for the launch alone, some percent of a step's time: the rest goes to waiting for
the device, to what is made of the results, and to the caller. Here all of it counts. Steps beside a prompt's are left out: the
host waits for the step before the one that it launched last, and for a prompt that is not a decode step's time.

    period = next `decode step`'s start - this one's
    part   = time in ranges of one root that name a piece of work (what a container holds loosely is not)
    parts + unnamed = period, exactly
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass

from harness.profile.spans import Trace
from harness.profile.tree import Node, below, nest

PHASE = "decode step"


@dataclass(frozen=True, slots=True)
class HostStep:
    """Means over `num_steps`. `parts`: name of a root -> nanoseconds a step; `num_ranges`: ranges of any depth a step."""

    num_steps: int
    period_ns: float
    parts: dict[str, float]
    unnamed_ns: float
    num_ranges: float

    def to_json(self) -> dict:
        return asdict(self)


def host_step(trace: Trace, *, roots: Sequence[str], phases: Sequence[str], containers: Collection[str]) -> HostStep | None:
    """None where no decode step lies between two others."""
    nodes = below(nest(trace.spans), roots)
    holds = {node.path[:-1] for node in nodes}
    totals: dict[str, int] = defaultdict(int)
    num_steps = num_ranges = period_ns = 0
    for start_ns, end_ns, inside in _periods(nodes, phases):
        num_steps, num_ranges, period_ns = num_steps + 1, num_ranges + len(inside), period_ns + end_ns - start_ns
        for node in inside:
            is_loose = node.span.name in containers and node.path in holds
            totals[node.path[0]] += 0 if is_loose else node.self_ns
    if not num_steps:
        return None
    parts = {name: total / num_steps for name, total in totals.items()}
    unnamed = (period_ns - sum(totals.values())) / num_steps
    return HostStep(num_steps, period_ns / num_steps, parts, unnamed, num_ranges / num_steps)


def _periods(nodes: list[Node], phases: Sequence[str]) -> Iterator[tuple[int, int, list[Node]]]:
    """(start, end, ranges that start in it) of each decode step between two others; a thread at a time."""
    threads: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        threads[node.span.thread].append(node)
    for ours in threads.values():
        starts = [index for index, node in enumerate(ours) if len(node.path) == 1 and node.path[0] in phases]
        for before, this, following in zip(starts, starts[1:], starts[2:], strict=False):
            if all(ours[index].path[0] == PHASE for index in (before, this, following)):
                yield ours[this].span.start_ns, ours[following].span.start_ns, ours[this:following]
