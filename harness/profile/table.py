"""The table by range: count, time, share, GPU time, kernels and gaps, a row a path of names.

In: the trace that has the host's ranges, and the trace that has kernels (the same one where it has both). Out: `Profile`.
The two traces are of two passes over the same work and are joined by path; GPU columns are means a call, so that passes of
unlike length may be joined. What a column was taken from stands in `sources`, or why it is empty.

    share       total of the row / total of its phase (the outermost range: prefill, decode step)
    gpu         duration of the kernels launched inside the range, inner ranges included, a call
    gap         time between two such kernels in which none of them ran, a call: the GPU waited for the host
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.profile.attach import attach
from harness.profile.spans import Kernel, Trace
from harness.profile.tree import Node, below, nest
from harness.stats.summary import summarize

PHASES = ("decode step", "prefill", "score")
CONTAINERS = ("layer", "experts", *PHASES)
"""Ranges that only hold others: time of their own is time that no named piece of work accounts for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One path of range names. Host times are from every call; GPU figures are means a call, None where not seen."""

    path: tuple[str, ...]
    count: int
    total_ns: int
    self_ns: int
    mean_ns: float
    p50_ns: float
    p99_ns: float | None
    share: float
    gpu_ns: float | None = None
    kernels: float | None = None
    gap_ns: float | None = None

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def phase(self) -> str:
        return self.path[0]


@dataclass(frozen=True, slots=True)
class Profile:
    """The table and where each half of it came from."""

    rows: tuple[Row, ...]
    sources: dict[str, str]
    """"host" and "gpu" -> a source's name, or "" with the reason under "no_gpu"."""
    notes: tuple[str, ...]

    def row(self, *path: str) -> Row | None:
        return next((row for row in self.rows if row.path == path), None)

    def attributed(self, phase: str) -> float | None:
        """Share of a phase's host time that lies in ranges that name a piece of work; None when it did not run."""
        found = [row for row in self.rows if row.phase == phase]
        if not found:
            return None
        loose_ns = sum(row.self_ns for row in found if row.name in CONTAINERS)
        return 1.0 - loose_ns / found[0].total_ns


def tabulate(host: Trace, gpu: Trace | None, *, phases: Sequence[str] = PHASES) -> Profile:
    """Join the two; `gpu` may be `host` itself, or None when nothing looked for kernels."""
    nodes = below(nest(host.spans), phases)
    figures, sources, notes = {}, {"host": host.source, "gpu": "", "no_gpu": ""}, [*host.notes]
    problem = gpu.missing_kernels if gpu is not None else "no source of kernels"
    if problem:
        sources["no_gpu"] = problem
    else:
        figures, lost = gpu_figures(gpu, phases)
        sources["gpu"] = gpu.source
        notes += [note for note in gpu.notes if note not in notes] + lost
    return Profile(tuple(_rows(nodes, figures, phases)), sources, tuple(notes))


def gpu_figures(trace: Trace, phases: Sequence[str]) -> tuple[dict[tuple, tuple[float, float, float]], list[str]]:
    """path -> (GPU ns, kernels, gap ns) a call, and what could not be given to a range."""
    nodes = below(nest(trace.spans), phases)
    inside, outside = attach(nodes, trace.kernels or ())
    counts, sums = defaultdict(int), defaultdict(lambda: [0.0, 0, 0.0])
    for node in nodes:
        kernels = inside.get(id(node), [])
        counts[node.path] += 1
        total = sums[node.path]
        total[0] += sum(kernel.duration_ns for kernel in kernels)
        total[1] += len(kernels)
        total[2] += idle_ns(kernels)
    notes = [f"{len(outside)} kernels were launched outside {', '.join(phases)} and are in no row"] if outside else []
    return {path: tuple(value / counts[path] for value in total) for path, total in sums.items()}, notes


def idle_ns(kernels: Sequence[Kernel]) -> int:
    """Time between the first start and the last end in which none of these kernels ran."""
    idle, busy_until = 0, None
    for kernel in sorted(kernels, key=lambda kernel: kernel.start_ns):
        if busy_until is not None:
            idle += max(0, kernel.start_ns - busy_until)
        busy_until = kernel.end_ns if busy_until is None else max(busy_until, kernel.end_ns)
    return idle


def _rows(nodes: list[Node], figures: dict, phases: Sequence[str]) -> list[Row]:
    by_path: dict[tuple[str, ...], list[Node]] = defaultdict(list)
    for node in nodes:
        by_path[node.path].append(node)
    totals = {path: sum(node.span.duration_ns for node in found) for path, found in by_path.items()}
    rows = []
    for path in ordered(list(by_path), phases):
        found = by_path[path]
        statistics = summarize([float(node.span.duration_ns) for node in found])
        gpu = figures.get(path, (None, None, None))
        rows.append(
            Row(
                path,
                len(found),
                totals[path],
                sum(node.self_ns for node in found),
                statistics["mean"].value,
                statistics["p50"].value,
                statistics["p99"].value,
                totals[path] / max(totals[path[:1]], 1),
                *gpu,
            )
        )
    return rows


def ordered(paths: list[tuple[str, ...]], phases: Sequence[str]) -> list[tuple[str, ...]]:
    """Depth first, each range after the one it lies in, siblings as they first came."""
    first = {path: index for index, path in enumerate(paths)}

    def key(path: tuple[str, ...]) -> tuple:
        return (phases.index(path[0]), *(first.get(path[: depth + 1], 0) for depth in range(1, len(path))))

    return sorted(paths, key=key)
