"""Time of each kind of work in each layer of a decode step: what the roofline by layer is made of.

In: the host's trace, the GPU's where it has kernels. Out: [{"layer", "name", "calls", "host_us", "gpu_us"}]: means a call,
and the calls a step (a name may come twice in a layer). A layer is known by its place: the n-th range `layer` inside its
step. Ranges outside layers (head, sampling) have layer None.
"""

from collections import defaultdict

from harness.profile.attach import attach
from harness.profile.spans import Trace
from harness.profile.tree import Node, below, nest

PHASE = "decode step"


def layer_times(host: Trace, gpu: Trace | None) -> list[dict]:
    """In order of first appearance; the range `layer` itself is among them."""
    host_us = _means(host, on_gpu=False)
    gpu_us = {} if gpu is None else _means(gpu, on_gpu=True)
    rows = []
    for key in [*host_us, *(key for key in gpu_us if key not in host_us)]:
        host_mean, host_calls = host_us.get(key, (None, None))
        gpu_mean, gpu_calls = gpu_us.get(key, (None, None))
        calls = gpu_calls if gpu_calls is not None else host_calls
        rows.append({"layer": key[0], "name": key[1], "calls": calls, "host_us": host_mean, "gpu_us": gpu_mean})
    return rows


def _means(trace: Trace, *, on_gpu: bool) -> dict[tuple[int | None, str], tuple[float, float]]:
    """(layer, name) -> (microseconds a call, calls a step)."""
    nodes = below(nest(trace.spans), (PHASE,))
    num_steps = sum(len(node.path) == 1 for node in nodes)
    kernels = attach(nodes, trace.kernels or ())[0] if on_gpu else {}
    totals: dict[tuple, list[float]] = defaultdict(list)
    for node, layer in _placed(nodes):
        ns = sum(kernel.duration_ns for kernel in kernels.get(id(node), ())) if on_gpu else node.span.duration_ns
        totals[(layer, node.span.name)].append(ns / 1e3)
    return {key: (sum(values) / len(values), len(values) / num_steps) for key, values in totals.items()}


def _placed(nodes: list[Node]) -> list[tuple[Node, int | None]]:
    """Each range below a step with the number of its layer."""
    placed, layer, last = [], -1, None
    for node in nodes:
        if len(node.path) == 1:
            layer, last = -1, None
            continue
        if node.span.name == "layer":
            layer, last = layer + 1, node.span
        is_inside = last is not None and node.span.end_ns <= last.end_ns and node.span.start_ns >= last.start_ns
        placed.append((node, layer if is_inside else None))
    return placed
