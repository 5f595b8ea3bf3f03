"""Long runs made small enough for a page: steps joined into blocks, readings thinned, requests laid into rows.

In: columns of samples, times in microseconds. Out: columns of at most a stated length. A block says how many steps it
holds and keeps their extremes, so that a peak is never averaged away; nothing is interpolated.
"""

import numpy as np

MAX_BLOCKS = 20_000
MAX_READINGS = 12_000
MAX_RANGES = 60_000


def join_steps(steps: dict[str, np.ndarray], limit: int = MAX_BLOCKS) -> dict[str, list]:
    """start, end, phase, tokens, requests, hit, count: consecutive steps of one phase joined, as many as it takes.

    `busy` is the time inside the steps of a block, which is less than end - start where the engine waited between them.
    """
    num = len(steps["start"])
    group = max(1, -(-num // limit))
    change = np.flatnonzero(np.diff(steps["phase"])) + 1
    edges = {0, num, *change.tolist()} if num else {0}
    begins = sorted({start for a, b in _pairs(sorted(edges)) for start in range(a, b, group)})
    while len(begins) > limit:  # phases that alternate at every step: join across them, the first one names the block
        begins = begins[::2]
    ends = [*begins[1:], num] if begins else []
    spans = list(zip(begins, ends, strict=True))
    return {
        "start": [int(steps["start"][a]) for a, _ in spans],
        "end": [int(steps["end"][b - 1]) for _, b in spans],
        "busy": [int((steps["end"][a:b] - steps["start"][a:b]).sum()) for a, b in spans],
        "phase": [int(steps["phase"][a]) for a, _ in spans],
        "tokens": [int(steps["tokens"][a:b].sum()) for a, b in spans],
        "requests": [int(steps["requests"][a:b].max()) for a, b in spans],
        "hit": [_mean(steps["hit"][a:b]) for a, b in spans],
        "count": [b - a for a, b in spans],
    }


def _pairs(edges: list[int]) -> list[tuple[int, int]]:
    return list(zip(edges, edges[1:], strict=False))


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 2) if known.size else None


def thin(times: np.ndarray, values: np.ndarray, limit: int = MAX_READINGS) -> tuple[list[int], list[float]]:
    """Readings with a value; of each stretch the lowest and the highest where there are too many."""
    known = ~np.isnan(values)
    times, values = times[known], values[known]
    if len(times) <= limit:
        return times.astype(int).tolist(), values.tolist()
    keep: set[int] = set()
    for part in np.array_split(np.arange(len(times)), limit // 2):
        keep |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    order = sorted(keep)
    return times[order].astype(int).tolist(), values[order].tolist()


def rows_of(starts: list[int], ends: list[int]) -> list[int]:
    """The row that each request is drawn in: the first that is free when it starts; as few rows as overlap at once."""
    import heapq

    rows = [0] * len(starts)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    num_rows = 0
    for index in sorted(range(len(starts)), key=lambda index: starts[index]):
        while busy and busy[0][0] <= starts[index]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, num_rows = num_rows, num_rows + 1
        rows[index] = row
        heapq.heappush(busy, (ends[index], row))
    return rows
