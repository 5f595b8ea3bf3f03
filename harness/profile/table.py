"""The table by range: count, time, share, GPU time, kernels and gaps, a row a path of names.

In: the trace that has the host's ranges, and the trace that has kernels (the same one where it has both). Out: `Profile`.
The two traces are of two passes over the same work and are joined by path; times are compared as means a call, so that passes
of unlike length may be joined. A path that only one of them has (ranges inside a CUDA graph, for the host) has None for the
other's columns. What a column was taken from stands in `sources`, or why it is empty.

    share       total of the row / total of its root (the outermost range: prefill, decode step), host time
    gpu         what the kernels launched inside the range added to the GPU's busy time, inner ranges included, a call
    gpu_share   the same in all / that of its root
    gap         time between two such kernels in which none of them ran, a call: the GPU waited for the host
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.profile.by_path import GpuFigures, HostFigures, gpu_figures, host_figures
from harness.profile.spans import Trace

PHASES = ("decode step", "prefill", "score")
WAIT = "wait for the device"
ROOTS = (*PHASES, "schedule", WAIT, "routing record", "emit")
"""What a table begins with: phases, and what an engine that launches ahead does between them."""
CONTAINERS = ("layer", "experts", *PHASES)
"""Ranges that hold others: what is theirs alone is time that no named piece of work accounts for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One path of range names. None: the source of that half did not see the path."""

    path: tuple[str, ...]
    host: HostFigures | None
    share: float | None
    gpu: GpuFigures | None
    gpu_share: float | None

    @property
    def name(self) -> str:
        return self.path[-1]

    def to_json(self) -> dict:
        """Flat, as it stands in a record."""
        host, gpu = self.host, self.gpu
        return {
            "path": list(self.path),
            "count": host.count if host else None,
            "total_ns": host.total_ns if host else None,
            "self_ns": host.self_ns if host else None,
            "mean_ns": host.mean_ns if host else None,
            "p50_ns": host.p50_ns if host else None,
            "p99_ns": host.p99_ns if host else None,
            "share": self.share,
            "gpu_count": gpu.count if gpu else None,
            "gpu_ns": gpu.total_ns / gpu.count if gpu else None,
            "gpu_share": self.gpu_share,
            "kernels": gpu.num_kernels / gpu.count if gpu else None,
            "gap_ns": gpu.idle_ns / gpu.count if gpu else None,
        }


@dataclass(frozen=True, slots=True)
class Profile:
    """The table and where each half of it came from."""

    rows: tuple[Row, ...]
    sources: dict[str, str]
    """"host" and "gpu" -> a source's name, or "" with the reason under "no_gpu"."""
    notes: tuple[str, ...]

    def row(self, *path: str) -> Row | None:
        return next((row for row in self.rows if row.path == path), None)

    def attributed(self, phase: str) -> dict[str, float]:
        """ "host" and "gpu" -> share of a phase's time in ranges that name a piece of work; without what was not seen."""
        ours = [row for row in self.rows if row.path[0] == phase]
        holds = {row.path[:-1] for row in ours}
        loose = [row for row in ours if row.name in CONTAINERS and row.path in holds]
        found, whole = {}, self.row(phase)
        if whole is not None and whole.host is not None and whole.path in holds:
            found["host"] = 1.0 - sum(row.host.self_ns for row in loose if row.host) / whole.host.total_ns
        if whole is not None and whole.gpu is not None and whole.gpu.total_ns:
            found["gpu"] = 1.0 - sum(row.gpu.self_ns for row in loose if row.gpu) / whole.gpu.total_ns
        return found


def tabulate(host: Trace, gpu: Trace | None, *, roots: Sequence[str] = ROOTS) -> Profile:
    """Join the two; `gpu` may be `host` itself, or None when nothing looked for kernels."""
    by_host, by_gpu = host_figures(host, roots), {}
    sources, notes = {"host": host.source, "gpu": "", "no_gpu": ""}, [*host.notes]
    problem = gpu.missing_kernels if gpu is not None else "no source of kernels"
    if problem:
        sources["no_gpu"] = problem
    else:
        by_gpu, lost = gpu_figures(gpu, roots)
        sources["gpu"] = gpu.source
        notes += [note for note in gpu.notes if note not in notes] + lost
    rows = [_row(path, by_host, by_gpu) for path in ordered([*by_host, *(p for p in by_gpu if p not in by_host)], roots)]
    return Profile(tuple(rows), sources, tuple(notes))


def _row(path: tuple[str, ...], by_host: dict, by_gpu: dict) -> Row:
    host, gpu = by_host.get(path), by_gpu.get(path)
    root_host, root_gpu = by_host.get(path[:1]), by_gpu.get(path[:1])
    share = host.total_ns / max(root_host.total_ns, 1) if host and root_host else None
    gpu_share = gpu.total_ns / root_gpu.total_ns if gpu and root_gpu and root_gpu.total_ns else None
    return Row(path, host, share, gpu, gpu_share)


def ordered(paths: list[tuple[str, ...]], roots: Sequence[str]) -> list[tuple[str, ...]]:
    """Depth first, each range after the one it lies in, siblings as they first came."""
    first = {path: index for index, path in enumerate(paths)}

    def key(path: tuple[str, ...]) -> tuple:
        return (roots.index(path[0]), *(first.get(path[: depth + 1], len(paths)) for depth in range(1, len(path))))

    return sorted(paths, key=key)
