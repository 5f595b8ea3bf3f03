"""When requests are due: an arrival spec -> seconds after the start, one a request, none falling.

The first open-loop request is due at 0. Gaps are drawn from the generator that is passed in; nothing else is random.
"""

from collections.abc import Sequence

import numpy as np

from harness.scenario.arrival import ArrivalSpec, RampArrival


def arrival_times_s(
    arrival: ArrivalSpec, count: int, generator: np.random.Generator, trace_s: Sequence[float] | None = None
) -> list[float | None]:
    """Scheduled start of each request in seconds; None for a closed loop. `trace_s`: the times of a trace's rows."""
    match arrival.kind:
        case "closed":
            return [None] * count
        case "all_at_once":
            return [0.0] * count
        case "constant":
            return [index / arrival.rate_per_s for index in range(count)]
        case "poisson":
            return _from_gaps(generator.exponential(1.0 / arrival.rate_per_s, size=count))
        case "gamma":
            shape = arrival.burstiness
            return _from_gaps(generator.gamma(shape, 1.0 / (arrival.rate_per_s * shape), size=count))
        case "ramp":
            return _ramp(arrival, count, generator)
        case "trace":
            start = trace_s[0]
            return [(time - start) * arrival.time_scale for time in trace_s[:count]]
    raise ValueError(f"no arrival times for {arrival.kind!r}: a sweep is planned one rate at a time")


def _from_gaps(gaps: np.ndarray) -> list[float]:
    return [float(time) for time in np.cumsum(gaps) - gaps[0]]


def _ramp(arrival: RampArrival, count: int, generator: np.random.Generator) -> list[float]:
    """Poisson with a rate that goes from a to b over the D seconds in which `count` requests are expected.

    With E the sum of unit exponential gaps, the expected number of requests by time t is a t + (b - a) t^2 / (2 D);
    t is where that equals E. After D the rate stays b.
    """
    a, b = arrival.from_rate_per_s, arrival.to_rate_per_s
    duration = 2.0 * count / (a + b)
    gaps = generator.exponential(1.0, size=count)
    expected = np.cumsum(gaps) - gaps[0]
    slope = (b - a) / duration
    inside = np.minimum(expected, count)
    # 2 E / (a + sqrt(a^2 + 2 slope E)): the root of the quadratic in the form that also holds for slope = 0.
    times = 2.0 * inside / (a + np.sqrt(np.maximum(a * a + 2.0 * slope * inside, 0.0)))
    return [float(time) for time in times + (expected - inside) / b]
