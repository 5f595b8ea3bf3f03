"""Throughput and latency of one repeat, from the times of its requests and steps.

In: `RequestTimes` (one a request) and `StepTimes` (one an engine step). Out: metric values as in a record.
Latency counts from the scheduled time; in a closed loop a request is scheduled when it is submitted.
Requests may come one by one (`LatencySamples`, `Totals`), so that a load of any length is never held as objects.
Definitions: harness/metrics. No torch, and no knowledge of a backend.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.collect.values import measured, missing
from harness.metrics import METRICS
from harness.stats.summary import DEFAULT_PERCENTILES, summarize

NS = 1e9
MS = 1e6
FAMILIES = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """When one request was due, was sent and got each token; monotonic nanoseconds."""

    request_id: str
    scheduled_ns: int
    submitted_ns: int
    token_times_ns: tuple[int, ...]
    prompt_tokens: int
    asked_tokens: int
    counted_tokens: int | None = None
    """Output tokens as a server counted them, where its chunks do not show each; None: one a time stamp."""

    @property
    def output_tokens(self) -> int:
        return len(self.token_times_ns) if self.counted_tokens is None else self.counted_tokens

    @property
    def ttft_ms(self) -> float:
        return (self.token_times_ns[0] - self.scheduled_ns) / MS

    @property
    def e2el_ms(self) -> float:
        return (self.token_times_ns[-1] - self.scheduled_ns) / MS

    @property
    def tpot_ms(self) -> float:
        return (self.e2el_ms - self.ttft_ms) / (self.output_tokens - 1)

    @property
    def gaps_ms(self) -> list[float]:
        return [(after - before) / MS for before, after in pairwise(self.token_times_ns)]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One engine step; monotonic nanoseconds."""

    index: int
    phase: str
    start_ns: int
    end_ns: int
    num_tokens: int
    num_requests: int
    cpu_ns: int | None = None
    """CPU time that the process spent over the step; None where nobody looked."""

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / NS


class LatencySamples:
    """The samples of each family, gathered request by request; 8 bytes a token."""

    def __init__(self) -> None:
        self.values = {family: array("d") for family in FAMILIES}

    def add(self, request: RequestTimes) -> None:
        """Take the samples of a request; one without a token has none."""
        if not request.token_times_ns:
            return
        self.values["ttft"].append(request.ttft_ms)
        self.values["e2el"].append(request.e2el_ms)
        if request.output_tokens > 1:
            self.values["tpot"].append(request.tpot_ms)
            self.values["itl"].extend(request.gaps_ms)


def latency_metrics(requests: Iterable[RequestTimes]) -> dict[str, dict]:
    """mean, median, std, p50, p90, p95, p99 of TTFT, TPOT, ITL and end-to-end latency."""
    samples = LatencySamples()
    for request in requests:
        samples.add(request)
    return family_metrics(samples.values)


def family_metrics(
    families: dict[str, Sequence[float]], *, percentiles: Sequence[float] = DEFAULT_PERCENTILES, prefix: str = ""
) -> dict[str, dict]:
    """The statistics of each family of samples in ms, by name: `{prefix}{statistic}_{family}_ms`."""
    metrics = {}
    for family, values in families.items():
        for statistic, (value, n, reason) in summarize(values, percentiles=percentiles).items():
            name = f"{prefix}{statistic}_{family}_ms"
            if name in METRICS:
                metrics[name] = missing(name, reason, n) if value is None else measured(name, value, n)
    return metrics


class Totals:
    """What throughput needs of the requests, gathered one by one."""

    def __init__(self) -> None:
        self.answered = self.output_tokens = self.prompt_tokens = 0
        self.first_ns, self.last_ns = None, None

    def add(self, request: RequestTimes) -> None:
        """Count an answered request; one without a token is none."""
        if not request.token_times_ns:
            return
        self.answered += 1
        self.output_tokens += request.output_tokens
        self.prompt_tokens += request.prompt_tokens
        due, end = request.scheduled_ns, request.token_times_ns[-1]
        self.first_ns = due if self.first_ns is None else min(self.first_ns, due)
        self.last_ns = end if self.last_ns is None else max(self.last_ns, end)

    @property
    def wall_s(self) -> float:
        """Seconds from the first submission to the last token."""
        return (self.last_ns - self.first_ns) / NS

    def metrics(self) -> dict[str, dict]:
        """Tokens and requests a second over the whole wall time."""
        names = ("output_throughput", "total_token_throughput", "request_throughput")
        if not self.answered:
            return {name: missing(name, "no request was answered") for name in names}
        totals = (self.output_tokens, self.output_tokens + self.prompt_tokens, self.answered)
        return {name: measured(name, total / self.wall_s, self.answered) for name, total in zip(names, totals, strict=True)}


def throughput_metrics(requests: Iterable[RequestTimes], steps: list[StepTimes]) -> dict[str, dict]:
    """Tokens and requests a second: over the whole wall time, and inside prefill and decode steps."""
    totals = Totals()
    for request in requests:
        totals.add(request)
    prefill = [step for step in steps if step.phase == "prefill"]
    decode = [step for step in steps if step.phase == "decode"]
    metrics = {
        "prefill_throughput": _rate("prefill_throughput", sum(s.num_tokens for s in prefill), prefill),
        "decode_throughput": _rate("decode_throughput", sum(s.num_tokens for s in decode), decode),
    }
    return metrics | totals.metrics()


def cpu_metrics(steps: list[StepTimes], *, device: str) -> dict[str, dict]:
    """CPU time of decode steps: what the work costs on a CPU, whatever else runs on the machine."""
    name = "median_step_cpu_ms"
    if device != "cpu":
        return {name: missing(name, "a GPU does the work of the steps")}
    times_ms = [step.cpu_ns / MS for step in steps if step.phase == "decode" and step.cpu_ns is not None]
    if not times_ms:
        return {name: missing(name, "no decode step took place")}
    return {name: measured(name, summarize(times_ms)["median"].value, len(times_ms))}


def _rate(name: str, num_tokens: int, steps: list[StepTimes]) -> dict:
    seconds = sum(step.seconds for step in steps)
    if seconds == 0:
        return missing(name, "no such step took place")
    return measured(name, num_tokens / seconds, len(steps))
