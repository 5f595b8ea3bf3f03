"""Kernels of a CUDA graph's replay, given to the ranges of a step that ran without the graph.

In: an eager trace (each kernel launched inside its range) and a trace of replays (one launch for all kernels). Out: the
replays' kernels with launch times as if each had been launched in its range, or why that cannot be done. The k-th kernel of
a replay belongs to the range of the eager step's k-th kernel; this is taken as true only where the names agree one by one.
"""

from collections import defaultdict
from dataclasses import replace

from harness.profile.attach import attach
from harness.profile.spans import Kernel, Trace
from harness.profile.tree import Node, below, nest


def in_order(kernels: list[Kernel]) -> list[Kernel]:
    """As they ran."""
    return sorted(kernels, key=lambda kernel: (kernel.start_ns, kernel.end_ns))


def steps_of(trace: Trace, phase: str) -> list[tuple[Node, list[Kernel]]]:
    """(step, its kernels as they ran) for each range of that name."""
    nodes = below(nest(trace.spans), (phase,))
    inside, _ = attach(nodes, trace.kernels or ())
    return [(node, in_order(inside.get(id(node), []))) for node in nodes if node.path == (phase,)]


def replayed_in_ranges(eager: Trace, replays: Trace, phase: str = "decode step") -> tuple[Trace | None, str]:
    """The eager trace's ranges with the mean times of the replays' kernels; (None, why) where the kernels do not match."""
    pattern = next(((step, kernels) for step, kernels in steps_of(eager, phase) if kernels), None)
    played = _by_launch(replays)
    if pattern is None or not played:
        return None, "no eager step with kernels, or no graph replay in the trace"
    step, expected = pattern
    names = [kernel.name for kernel in expected]
    fitting = [kernels for kernels in played if _middle(names, [kernel.name for kernel in kernels]) is not None]
    if not fitting:
        return None, (
            f"the graph's {len(played[0])} kernels are not the {len(names)} of an eager step in the same order; "
            "GPU time of a replay is known as a whole only"
        )
    offset = _middle(names, [kernel.name for kernel in fitting[0]])
    moved = []
    for index, kernels in enumerate(zip(*fitting, strict=True)):
        launch_ns = expected[offset + index].launch_ns
        mean_ns = sum(kernel.duration_ns for kernel in kernels) / len(kernels)
        start_ns = fitting[0][index].start_ns
        moved.append(replace(kernels[0], start_ns=start_ns, end_ns=start_ns + round(mean_ns), launch_ns=launch_ns))
    around = [*expected[:offset], *expected[offset + len(fitting[0]) :]]
    spans = [node.span for node in nest(eager.spans) if _holds(step, node)]
    note = f"GPU times of graph replays (n = {len(fitting)}), ranges of an eager step with the same {len(moved)} kernels"
    kernels = tuple(in_order([*around, *moved]))
    launches = len({kernel.launch_ns for kernel in kernels})
    return Trace(f"{replays.source} (graph replays)", tuple(spans), kernels, launches, notes=(note,)), ""


def _by_launch(trace: Trace) -> list[list[Kernel]]:
    groups: dict[int, list[Kernel]] = defaultdict(list)
    for kernel in trace.kernels or ():
        if kernel.graph_launch is not None:
            groups[kernel.graph_launch].append(kernel)
    longest = max(map(len, groups.values()), default=0)
    return [in_order(group) for group in groups.values() if len(group) == longest]


def _middle(names: list[str], part: list[str]) -> int | None:
    """Where `part` stands in `names` as a run without gaps; None where it does not."""
    last = len(names) - len(part)
    return next((start for start in range(last + 1) if names[start : start + len(part)] == part), None)


def _holds(step: Node, node: Node) -> bool:
    return (
        step.span.thread == node.span.thread
        and step.span.start_ns <= node.span.start_ns <= node.span.end_ns <= step.span.end_ns
    )
