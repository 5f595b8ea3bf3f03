"""Which contenders are held in memory together, so that they can be timed in turn.

In: bytes of each contender's packed copies, of the rows that the reference needs, and what is free. Out: groups, in order;
one group where everything fits. Contenders of one layout share their copies. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

SHARE_OF_FREE = 0.75
"""The rest is for activations, graphs and what packing holds for a moment."""


def group_by_memory(
    keys: Sequence[tuple[str, str]], packed_bytes: dict[str, float], *, copies: int, free_bytes: float
) -> list[list[int]]:
    """Indices of `keys` (weight format, layout) by group; `packed_bytes`: one copy of a layer by weight format."""
    groups: list[list[int]] = []
    held: set[tuple[str, str]] = set()
    for index, key in enumerate(keys):
        if not groups or _bytes(held | {key}, packed_bytes, copies) > SHARE_OF_FREE * free_bytes:
            groups.append([])
            held = set()
        groups[-1].append(index)
        held.add(key)
    return groups


def _bytes(keys: set[tuple[str, str]], packed_bytes: dict[str, float], copies: int) -> float:
    """Packed copies, the rows of copy 0, and three times one layer for packing."""
    formats = {weights for weights, _ in keys}
    kept = sum(packed_bytes[weights] for weights in formats)
    largest = max(packed_bytes[weights] for weights in formats)
    return sum(copies * packed_bytes[weights] for weights, _ in keys) + kept + 3 * largest
