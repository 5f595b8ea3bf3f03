"""Which kernel of one layout is fastest at which number of tokens, in as few ranges as the measurement allows.

In: microseconds with their spread by kernel and number of tokens. Out: ranges (most tokens or None, kernel), ascending,
the last one for any number. Kernels whose quartile intervals overlap the fastest one's are tied; among ties the fewest
switches win, then the least time. A range ends at the last number of tokens that was measured in it. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from harness.errors import HarnessError


class Time(NamedTuple):
    """Median and interquartile distance."""

    us: float
    iqr_us: float


class NoCrossoversError(HarnessError):
    """The measurement does not say what runs every number of tokens."""

    exit_code = 3


Times = Mapping[str, Mapping[int, Time]]


def crossovers(times: Times, unlimited: Collection[str]) -> list[tuple[int | None, str]]:
    """`unlimited`: kernels that take any number of tokens; one of them must be among `times`."""
    counts = sorted({tokens for own in times.values() for tokens in own})
    if not counts:
        raise NoCrossoversError("nothing was measured: no crossovers")
    last = [name for name in times if name in unlimited and counts[-1] in times[name]]
    if not last:
        raise NoCrossoversError(
            f"no kernel that takes any number of tokens was measured at {counts[-1]} tokens "
            f"(measured there: {', '.join(name for name in times if counts[-1] in times[name])})"
        )
    path = _fewest_switches([_tied(times, tokens) for tokens in counts])
    after = [*path[1:], None]
    ranges = [(tokens, name) for tokens, name, following in zip(counts, path, after, strict=True) if name != following]
    if path[-1] in unlimited:
        return [*ranges[:-1], (None, path[-1])]
    return [*ranges, (None, min(last, key=lambda name: times[name][counts[-1]].us))]


def _tied(times: Times, tokens: int) -> dict[str, float]:
    """Microseconds of the fastest kernel and of those within its spread and their own."""
    own = {name: by_tokens[tokens] for name, by_tokens in times.items() if tokens in by_tokens}
    best = min(own.values(), key=lambda time: time.us)
    upper = best.us + best.iqr_us / 2
    return {name: time.us for name, time in own.items() if time is best or time.us - time.iqr_us / 2 <= upper}


def _fewest_switches(allowed: list[dict[str, float]]) -> list[str]:
    """One allowed name a step: fewest changes, then least relative time; by dynamic programming over the steps."""
    best: dict[str, tuple[int, float, list[str]]] = {}
    for step in allowed:
        least = min(step.values())
        reached = {}
        for name, us in step.items():
            cost = math.log(us / least)
            if not best:
                reached[name] = (0, cost, [name])
                continue
            before = min(
                ((switches + (other != name), spent, path) for other, (switches, spent, path) in best.items()),
                key=lambda found: found[:2],
            )
            reached[name] = (before[0], before[1] + cost, [*before[2], name])
        best = reached
    return min(best.values(), key=lambda found: found[:2])[2]


def best_layout(times_by_layout: Mapping[str, Times], unlimited: Collection[str]) -> str:
    """The layout whose fastest kernels take the least time, as a geometric mean over the counts that all layouts have."""
    complete = {layout: times for layout, times in times_by_layout.items() if any(name in unlimited for name in times)}
    if not complete:
        raise NoCrossoversError("no layout has a kernel that takes any number of tokens: no crossovers")
    common = set.intersection(*({t for own in times.values() for t in own} for times in complete.values()))
    if not common:
        raise NoCrossoversError("the layouts have no number of tokens in common: name one with --layout")

    def mean_log(layout: str) -> float:
        times = complete[layout]
        return sum(math.log(min(own[t].us for own in times.values() if t in own)) for t in common) / len(common)

    return min(complete, key=mean_log)
