"""Figures of one trace by path of range names: the host's from spans, the GPU's from the kernels launched inside them.

In: a Trace, the names that paths begin with. Out: path -> figures, in order of first appearance. Joins no traces.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.profile.attach import attach
from harness.profile.spans import Kernel, Trace
from harness.profile.tree import Node, below, nest
from harness.stats.summary import summarize

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFigures:
    """Over all calls. p99 is None below 100 calls."""

    count: int
    total_ns: int
    self_ns: int
    mean_ns: float
    p50_ns: float
    p99_ns: float | None


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """Sums over all calls. `self_ns`: of kernels that no inner range launched."""

    count: int
    total_ns: int
    self_ns: int
    num_kernels: int
    idle_ns: int


def host_figures(trace: Trace, roots: Sequence[str]) -> dict[Path, HostFigures]:
    found = {}
    for path, nodes in _by_path(below(nest(trace.spans), roots)).items():
        durations = [node.span.duration_ns for node in nodes]
        own = sum(node.self_ns for node in nodes)
        statistics = summarize([float(duration) for duration in durations])
        mean, p50, p99 = (statistics[name].value for name in ("mean", "p50", "p99"))
        found[path] = HostFigures(len(nodes), sum(durations), own, mean, p50, p99)
    return found


def gpu_figures(trace: Trace, roots: Sequence[str]) -> tuple[dict[Path, GpuFigures], list[str]]:
    """Also: what could not be given to a range, in words."""
    nodes = below(nest(trace.spans), roots)
    inside, outside = attach(nodes, trace.kernels or ())
    totals, found = defaultdict(int), {}
    paths = _by_path(nodes)
    for path, ours in paths.items():
        totals[path] = sum(kernel.duration_ns for node in ours for kernel in inside.get(id(node), ()))
    for path, ours in paths.items():
        below_it = sum(total for other, total in totals.items() if other[:-1] == path)
        lists = [inside.get(id(node), []) for node in ours]
        idle = sum(map(idle_ns, lists))
        found[path] = GpuFigures(len(ours), totals[path], totals[path] - below_it, sum(map(len, lists)), idle)
    notes = [f"{len(outside)} kernels were launched outside {', '.join(roots[:2])} and are in no row"] if outside else []
    return found, notes


def idle_ns(kernels: Sequence[Kernel]) -> int:
    """Time between the first start and the last end in which none of these kernels ran."""
    idle, busy_until = 0, None
    for kernel in sorted(kernels, key=lambda kernel: kernel.start_ns):
        if busy_until is not None:
            idle += max(0, kernel.start_ns - busy_until)
        busy_until = kernel.end_ns if busy_until is None else max(busy_until, kernel.end_ns)
    return idle


def _by_path(nodes: list[Node]) -> dict[Path, list[Node]]:
    found: dict[Path, list[Node]] = defaultdict(list)
    for node in nodes:
        found[node.path].append(node)
    return found
