"""Figures of the steady window, and the offered rate: the same for a served load and for one in this process.

In: the answered requests' times, which can be gone through again, and the window. Definitions: harness/metrics.
"""

from collections.abc import Callable, Iterable

from harness.collect.latency import NS, LatencySamples, RequestTimes, family_metrics
from harness.collect.values import measured, missing
from harness.collect.window import Window

RATES = ("steady_output_throughput", "steady_request_throughput")


def steady_metrics(requests: Callable[[], Iterable[RequestTimes]], window: Window) -> dict[str, dict]:
    """Throughput inside the window, and latency of the requests that were due in it."""
    samples, num_tokens, num_ended = LatencySamples(), 0, 0
    if window.reason is not None:
        nothing = family_metrics(samples.values, prefix="steady_")
        return {name: missing(name, window.reason) for name in (*RATES, *nothing)}
    start, end = window.start_ns, window.end_ns
    for times in requests():
        num_tokens += sum(start <= time < end for time in times.token_times_ns)
        num_ended += start <= times.token_times_ns[-1] < end
        if start <= times.scheduled_ns <= end:
            samples.add(times)
    seconds = (end - start) / NS
    counts = dict(zip(RATES, (num_tokens, num_ended), strict=True))
    if seconds <= 0:  # requests that are due together: a burst has latencies and no rate of its own
        rates = {name: missing(name, "every request was due at the same moment") for name in RATES}
    else:
        rates = {name: measured(name, count / seconds, window.num_requests) for name, count in counts.items()}
    return rates | family_metrics(samples.values, prefix="steady_")


def offered_rate(dues_ns: tuple[int, int] | None, num_sent: int) -> dict:
    """Requests a second that an open loop asked for; `dues_ns`: first and last scheduled time, None in a closed loop."""
    if dues_ns is None:
        return missing("offered_rate", "a closed loop offers no rate: a request starts when another ends")
    seconds = (dues_ns[1] - dues_ns[0]) / NS
    if num_sent < 2 or seconds <= 0:
        return missing("offered_rate", "needs two requests at different times", num_sent)
    return measured("offered_rate", (num_sent - 1) / seconds, num_sent)


def window_block(window: Window, start_ns: int) -> dict:
    """The window as it stands in a record, in seconds after the start."""
    if window.reason is not None:
        return {"start_s": None, "end_s": None, "num_requests": 0, "growth": window.growth, "reason": window.reason}
    seconds = {"start_s": (window.start_ns - start_ns) / NS, "end_s": (window.end_ns - start_ns) / NS}
    return seconds | {"num_requests": window.num_requests, "growth": window.growth, "reason": None}
