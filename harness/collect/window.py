"""The steady window of a load: which requests are neither start-up nor drain, by rule.

In: of each answered request, in order of its scheduled time: when it was due, TTFT, TPOT. Out: `Window`.
Rule: a closed loop's first `concurrency` requests came all at once and its last `concurrency` run while it drains, so
they are out. From the rest, MSER-5 cuts the start: of all cuts up to the middle, the one after which the mean of the
series (in means of five) has the smallest standard error; TTFT and TPOT each, the later cut holds. A cut in the middle
means that no steady state was reached. Source: White, "An Effective Truncation Heuristic for Bias Reduction in
Simulation Output", Simulation 69(6), 1997.
"""

from dataclasses import dataclass

import numpy as np

BATCH = 5
MIN_REQUESTS = 20
MAX_GROWTH = 1.5
MIN_GROWTH_MS = 20.0
"""The last third's median TTFT above MAX_GROWTH times the first's, and by so much: the load outgrew the server."""


@dataclass(frozen=True, slots=True)
class Window:
    """Start and end in monotonic nanoseconds, both None with a `reason` where there is no steady window."""

    start_ns: int | None
    end_ns: int | None
    num_requests: int
    reason: str | None = None
    growth: str | None = None
    """How latency grew inside the window, where it did."""


def find_window(scheduled_ns, ttft_ms, tpot_ms, *, concurrency: int | None) -> Window:
    """The steady window; `concurrency` is that of a closed loop, None for an open one. TPOT may hold NaN."""
    scheduled = np.asarray(scheduled_ns, dtype=np.int64)
    order = np.argsort(scheduled, kind="stable")
    scheduled, series = scheduled[order], [np.asarray(values, dtype=np.float64)[order] for values in (ttft_ms, tpot_ms)]
    edge = concurrency or 0
    first, last = edge, len(scheduled) - edge
    if last - first < MIN_REQUESTS:
        ends = f"2 x {edge} at its ends + " if edge else ""
        return Window(None, None, 0, f"{len(scheduled)} answered requests; a steady window needs {ends}{MIN_REQUESTS}")
    cuts = [mser5(values[first:last]) for values in series]
    if None in cuts:
        growth = _growth(series[0][first:last])
        return Window(None, None, 0, "latency had not settled by the middle of the load (MSER-5)", growth)
    first += max(cuts)
    if last - first < MIN_REQUESTS:
        return Window(None, None, 0, f"fewer than {MIN_REQUESTS} requests are left after the start-up")
    window_ttft = series[0][first:last]
    return Window(int(scheduled[first]), int(scheduled[last - 1]), last - first, None, _growth(window_ttft))


def mser5(values: np.ndarray) -> int | None:
    """How many values at the start MSER-5 cuts; None when the best cut is the last that is allowed."""
    usable = values[~np.isnan(values)]
    num_batches = len(usable) // BATCH
    if num_batches < 4:
        return 0
    means = usable[: num_batches * BATCH].reshape(num_batches, BATCH).mean(axis=1)
    left = np.arange(num_batches, 0, -1)  # batches that are left after cutting 0, 1, 2, ...
    total, squares = np.cumsum(means[::-1])[::-1], np.cumsum((means**2)[::-1])[::-1]
    spread = np.maximum(squares - total**2 / left, 0.0) / left**2
    allowed = num_batches // 2
    cut = int(np.argmin(spread[: allowed + 1]))
    return None if cut == allowed and spread[cut] < 0.5 * spread[0] else cut * BATCH


def _growth(ttft_ms: np.ndarray) -> str | None:
    third = len(ttft_ms) // 3
    before, after = float(np.median(ttft_ms[:third])), float(np.median(ttft_ms[-third:]))
    if after <= MAX_GROWTH * before or after - before <= MIN_GROWTH_MS:
        return None
    return f"median TTFT grew from {before:.0f} ms in the first third to {after:.0f} ms in the last"
