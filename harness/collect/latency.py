"""Throughput and latency of one repeat, from the times of its requests and steps.

In: `RequestTimes` (one a request) and `StepTimes` (one an engine step). Out: metric values as in a record.
Latency counts from the scheduled time; in a closed loop a request is scheduled when it is submitted.
Definitions: harness/metrics.py. No torch, and no knowledge of a backend.
"""

from dataclasses import dataclass
from itertools import pairwise

from harness.collect.values import measured, missing
from harness.stats.summary import summarize

NS = 1e9
MS = 1e6


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """When one request was due, was sent and got each token; monotonic nanoseconds."""

    request_id: str
    scheduled_ns: int
    submitted_ns: int
    token_times_ns: tuple[int, ...]
    prompt_tokens: int
    asked_tokens: int

    @property
    def output_tokens(self) -> int:
        return len(self.token_times_ns)

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


def latency_metrics(requests: list[RequestTimes]) -> dict[str, dict]:
    """mean, median, std, p50, p90, p95, p99 of TTFT, TPOT, ITL and end-to-end latency."""
    answered = [request for request in requests if request.output_tokens > 0]
    paced = [request for request in answered if request.output_tokens > 1]
    families = {
        "ttft": [request.ttft_ms for request in answered],
        "tpot": [request.tpot_ms for request in paced],
        "itl": [gap for request in paced for gap in request.gaps_ms],
        "e2el": [request.e2el_ms for request in answered],
    }
    metrics = {}
    for family, values in families.items():
        for statistic, (value, n, reason) in summarize(values).items():
            name = f"{statistic}_{family}_ms"
            metrics[name] = missing(name, reason, n) if value is None else measured(name, value, n)
    return metrics


def throughput_metrics(requests: list[RequestTimes], steps: list[StepTimes]) -> dict[str, dict]:
    """Tokens and requests a second: over the whole wall time, and inside prefill and decode steps."""
    answered = [request for request in requests if request.output_tokens > 0]
    prefill = [step for step in steps if step.phase == "prefill"]
    decode = [step for step in steps if step.phase == "decode"]
    metrics = {
        "prefill_throughput": _rate("prefill_throughput", sum(s.num_tokens for s in prefill), prefill),
        "decode_throughput": _rate("decode_throughput", sum(s.num_tokens for s in decode), decode),
    }
    names = ("output_throughput", "total_token_throughput", "request_throughput")
    if not answered:
        return metrics | {name: missing(name, "no request was answered") for name in names}
    first = min(request.scheduled_ns for request in answered)
    wall_s = (max(request.token_times_ns[-1] for request in answered) - first) / NS
    output = sum(request.output_tokens for request in answered)
    totals = (output, output + sum(request.prompt_tokens for request in answered), len(answered))
    return metrics | {name: measured(name, total / wall_s, len(answered)) for name, total in zip(names, totals, strict=True)}


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
