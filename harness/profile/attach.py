"""Which kernels belong to which range: by the moment at which the host launched them.

In: nodes of one source, its kernels. Out: node -> kernels launched inside it (inner ranges included), and kernels that no
node holds. A kernel without a launch time belongs to none.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from harness.profile.spans import Kernel
from harness.profile.tree import Node


def attach(nodes: Sequence[Node], kernels: Iterable[Kernel]) -> tuple[dict[int, list[Kernel]], list[Kernel]]:
    """Keys are `id(node)` of `nodes`. The innermost range that holds the launch, and every range around it, get the kernel."""
    starts = [node.span.start_ns for node in nodes]
    of_span = {id(node.span): node for node in nodes}
    inside: dict[int, list[Kernel]] = {}
    outside: list[Kernel] = []
    for kernel in kernels:
        node = None if kernel.launch_ns is None else _innermost(nodes, starts, of_span, kernel.launch_ns)
        if node is None:
            outside.append(kernel)
        while node is not None:
            inside.setdefault(id(node), []).append(kernel)
            node = _around(node, of_span)
    return inside, outside


def _innermost(nodes: Sequence[Node], starts: list[int], of_span: dict[int, Node], moment_ns: int) -> Node | None:
    """The last range that began before the moment, or the nearest one around it that has not ended."""
    index = bisect_right(starts, moment_ns) - 1
    node = nodes[index] if index >= 0 else None
    while node is not None and node.span.end_ns < moment_ns:
        node = _around(node, of_span)
    return node


def _around(node: Node, of_span: dict[int, Node]) -> Node | None:
    return None if node.parent is None else of_span.get(id(node.parent.span))
