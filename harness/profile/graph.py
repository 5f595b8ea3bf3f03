"""Kernels of a CUDA graph's replay, given to the ranges of a step that ran without the graph.

In: an eager trace (each kernel launched inside its range) and a trace of replays (one launch for all kernels). Out: the eager
trace with one decode step, whose kernels have the times of the replays, or why that cannot be done. The k-th kernel of a
replay belongs to the range of the eager step's k-th kernel; this is taken as true only where the names agree one by one.
Everything outside decode steps (prefill) stays as it ran eagerly.
"""

from collections import defaultdict
from dataclasses import replace

from harness.profile.attach import attach
from harness.profile.spans import Kernel, Span, Trace, launches_of
from harness.profile.tree import Node, below, nest

PHASE = "decode step"
EAGER_NOTE = "GPU time of prefill is of eager launches"


def replayed_in_ranges(eager: Trace, replays: Trace, phase: str = PHASE) -> tuple[Trace | None, str]:
    """(trace, "") or (None, why the kernels do not match)."""
    steps = [(node, kernels) for node, kernels in _steps(eager, phase) if kernels]
    whole, played = _whole_steps(replays, phase), _by_launch(replays, phase)
    if not steps or not played:
        return None, "no eager step with kernels, or no graph replay in the trace"
    for step, expected in steps:
        for candidates in (whole, played):
            fitting = [kernels for kernels in candidates if _place(expected, kernels) is not None]
            fitting = [kernels for kernels in fitting if len(kernels) == len(fitting[0])]
            if fitting:
                return _joined(eager, replays, step, expected, fitting=fitting, phase=phase), ""
    return None, (
        f"the graph's {len(played[-1])} kernels are not the {len(steps[0][1])} of an eager step in the same order; "
        "GPU time of a replay is known as a whole only"
    )


def _joined(eager: Trace, replays: Trace, step: Node, expected: list[Kernel], *, fitting: list, phase: str) -> Trace:
    offset = _place(expected, fitting[0])
    moved = []
    for index, kernels in enumerate(zip(*fitting, strict=True)):
        mean_ns = round(sum(kernel.duration_ns for kernel in kernels) / len(kernels))
        first = fitting[0][index]
        launch_ns = expected[offset + index].launch_ns
        moved.append(replace(first, end_ns=first.start_ns + mean_ns, launch_ns=launch_ns, graph_launch=None))
    end = offset + len(moved)
    before = _moved(expected[:offset], moved[0].start_ns - expected[offset].start_ns)
    around = [*before, *_moved(expected[end:], moved[-1].end_ns - expected[end - 1].end_ns)]
    others = [node.span for node, _ in _steps(eager, phase) if node.span is not step.span]
    spans = tuple(span for span in eager.spans if not _in_any(others, span.start_ns))
    outside = [k for k in eager.kernels or () if k.launch_ns is not None and not _in_any([*others, step.span], k.launch_ns)]
    kernels = tuple(in_order([*outside, *around, *moved]))
    replayed = f"{len(fitting)} graph replay{'s' if len(fitting) > 1 else ''}"
    note = f"GPU times of {replayed}, ranges of an eager step with the same {len(moved)} kernels; {EAGER_NOTE}"
    return Trace(f"{replays.source} (graph replays)", spans, kernels, len(launches_of(kernels)), notes=(note,))


def _moved(kernels: list[Kernel], by_ns: int) -> list[Kernel]:
    """Eager kernels on the replay's clock, at the distance that they had."""
    return [replace(kernel, start_ns=kernel.start_ns + by_ns, end_ns=kernel.end_ns + by_ns) for kernel in kernels]


def in_order(kernels: list[Kernel]) -> list[Kernel]:
    """As they ran."""
    return sorted(kernels, key=lambda kernel: (kernel.start_ns, kernel.end_ns))


def _steps(trace: Trace, phase: str) -> list[tuple[Node, list[Kernel]]]:
    """(step, its kernels as they ran) for each range of that name."""
    nodes = below(nest(trace.spans), (phase,))
    inside, _ = attach(nodes, trace.kernels or ())
    return [(node, in_order(inside.get(id(node), []))) for node in nodes if node.path == (phase,)]


def _whole_steps(trace: Trace, phase: str) -> list[list[Kernel]]:
    """All kernels of each step that replays a graph: copies around it included."""
    found = [kernels for _, kernels in _steps(trace, phase)]
    return [kernels for kernels in found if any(kernel.graph_launch is not None for kernel in kernels)]


def _by_launch(trace: Trace, phase: str) -> list[list[Kernel]]:
    """The replays with the most kernels, without what ran around them; prompts may be graphs too and are left out."""
    groups: dict[int, list[Kernel]] = defaultdict(list)
    for _, kernels in _steps(trace, phase):
        for kernel in kernels:
            if kernel.graph_launch is not None:
                groups[kernel.graph_launch].append(kernel)
    longest = max(map(len, groups.values()), default=0)
    return [in_order(group) for group in groups.values() if len(group) == longest]


def _place(expected: list[Kernel], part: list[Kernel]) -> int | None:
    """Where the names of `part` stand among those of `expected` as a run without gaps; None where they do not."""
    names, wanted = [kernel.name for kernel in expected], [kernel.name for kernel in part]
    last = len(names) - len(wanted)
    return next((start for start in range(last + 1) if names[start : start + len(wanted)] == wanted), None)


def _in_any(spans: list[Span], moment_ns: int) -> bool:
    return any(span.start_ns <= moment_ns <= span.end_ns for span in spans)
