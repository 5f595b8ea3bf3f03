"""Which span lies in which: parents, paths and self times, from start and end alone.

In: spans of one source, any order, several threads. Out: `Node`s in order of their start. A span that overlaps its
neighbour without lying in it cannot come from push and pop and is refused.

    self time of a span = its duration - the durations of the spans directly inside it
so the self times of a span and of everything in it add up to its duration.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.errors import ProfileError
from harness.profile.spans import Span

ROUNDING_NS = 100
"""By how much an inner range may seem to outlast the one around it: clocks converted from ticks are rounded."""


@dataclass(slots=True)
class Node:
    """A span with its place. `path` begins at the outermost span of its thread."""

    span: Span
    parent: "Node | None"
    path: tuple[str, ...]
    self_ns: int

    @property
    def root(self) -> "Node":
        return self if self.parent is None else self.parent.root


def nest(spans: Iterable[Span]) -> list[Node]:
    """Every span as a Node; ProfileError for two that overlap in part."""
    nodes: list[Node] = []
    stacks: dict[int, list[Node]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)):
        stack = stacks.setdefault(span.thread, [])
        while stack and stack[-1].span.end_ns <= span.start_ns and stack[-1].span.end_ns < span.end_ns:
            stack.pop()
        parent = stack[-1] if stack else None
        if parent is not None and parent.span.end_ns < span.end_ns <= parent.span.end_ns + ROUNDING_NS:
            span = replace(span, end_ns=parent.span.end_ns)
        if parent is not None and span.end_ns > parent.span.end_ns:
            raise ProfileError(
                f"ranges {parent.span.name!r} and {span.name!r} overlap in part: they did not come from push and pop on one "
                "thread; the trace is damaged"
            )
        path = (*parent.path, span.name) if parent else (span.name,)
        node = Node(span, parent, path, span.duration_ns)
        if parent is not None:
            parent.self_ns -= span.duration_ns
        nodes.append(node)
        stack.append(node)
    return nodes


def below(nodes: Iterable[Node], roots: Iterable[str]) -> list[Node]:
    """Nodes at or inside a span named in `roots`, with paths that begin there."""
    wanted, kept = set(roots), []
    for node in nodes:
        start = next((index for index, name in enumerate(node.path) if name in wanted), None)
        if start is not None:
            kept.append(Node(node.span, node.parent, node.path[start:], node.self_ns))
    return kept
