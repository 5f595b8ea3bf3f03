"""What the passes of one cell left, as Traces: which is the host's view, which has the kernels, what the listeners cost.

In: the target's result, the run's folder, nsys's trace where there is one. Out: the two traces to be joined, notes, and the
overhead of each kind of listening: medians of decode steps, in processes of their own where nsys was on.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.profile.graph import replayed_in_ranges
from harness.profile.spans import Span, Trace
from harness.profile.torch_trace import read_torch
from harness.stats.summary import summarize

DOMAIN = "fp4moe"
MIN_STEPS = 5


@dataclass(frozen=True, slots=True)
class Overhead:
    """Median decode step under one kind of listening, and its ratio to nothing listening; quartiles of the steps."""

    what: str
    median_ms: float
    low_ms: float
    high_ms: float
    n: int
    ratio: float | None


def collected_trace(folder: Path, ranges_file: str) -> Trace:
    """The in-process collector's ranges."""
    import pyarrow.parquet as parquet

    columns = ["name", "start_ns", "end_ns", "step", "layer", "tokens"]
    rows = parquet.read_table(folder / ranges_file, columns=columns).to_pylist()
    spans = tuple(
        Span(row["name"], row["start_ns"], row["end_ns"], 0, {key: row[key] for key in columns[3:] if row[key] is not None})
        for row in rows
    )
    return Trace("ranges in process", spans, None, 0, no_kernels="ranges in process: they see the host only")


def sources(folder: Path, passes: list[dict], seen: Trace | None, *, on_gpu: bool) -> tuple[Trace, Trace | None, list[str]]:
    """(host, gpu, notes): nsys for both where it saw all; else its ranges, or our own, and the torch profiler's kernels."""
    notes: list[str] = []
    ours = [done for done in passes if done["name"] == "ranges"]
    host = collected_trace(folder, ours[-1]["samples"]["ranges"])
    if seen is not None and seen.spans:
        host = seen
    elif seen is not None:
        notes.append("nsys recorded no range of ours; the host's times are the process's own")
    if not on_gpu:
        return host, Trace("CPU", (), None, 0, no_kernels="the model ran on the CPU: no GPU took part"), notes
    if host.source == "nsys" and host.missing_kernels is None:
        return host, host, notes
    if host.source == "nsys":
        notes.append(host.missing_kernels)
    gpu, found = torch_kernels(folder, passes)
    return host, gpu, notes + found


def torch_kernels(folder: Path, passes: list[dict]) -> tuple[Trace | None, list[str]]:
    """The torch profiler's kernels in ranges, of replays where the engine has graphs; and notes."""
    traced = next((done["samples"] for done in passes if done["name"] == "torch"), None)
    if traced is None:
        return None, ["no pass under the torch profiler was asked for"]
    eager = read_torch(folder / traced["trace"], expects_gpu=True)
    if "replays" not in traced:
        return eager, []
    replays = read_torch(folder / traced["replays"], expects_gpu=True)
    joined, problem = replayed_in_ranges(eager, replays)
    return (joined, []) if joined is not None else (eager, [f"GPU times are of eager steps: {problem}"])


def overheads(plain: list[dict], under_nsys: list[dict] | None) -> list[Overhead]:
    """`off` first; the ratio is to `off` of the process without nsys."""
    seconds = {"off": _pooled(plain, "off"), "ranges on": _pooled(plain, "ranges"), "torch profiler": _pooled(plain, "torch")}
    if under_nsys is not None:
        seconds |= {"under nsys, ranges off": _pooled(under_nsys, "off"), "nsys on": _pooled(under_nsys, "nvtx")}
    base = summarize(seconds["off"])["median"].value
    return [_overhead(what, found, base) for what, found in seconds.items() if found]


def _pooled(passes: list[dict], name: str) -> list[float]:
    return [second for done in passes if done["name"] == name for second in done["decode_s"]]


def _overhead(what: str, seconds: list[float], base_s: float | None) -> Overhead:
    import numpy as np

    low, median, high = (float(x) * 1e3 for x in np.percentile(seconds, [25, 50, 75]))
    enough = base_s and len(seconds) >= MIN_STEPS
    return Overhead(what, median, low, high, len(seconds), median / 1e3 / base_s if enough else None)
