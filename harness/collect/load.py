"""A load's figures: LoadResult -> metrics of a record, and its `load` block (counts, window, the client's own cost).

Outcomes are read from disk twice (all figures; then those of the steady window) and never held as objects.
Failed requests are in no latency and no throughput; they are counted. Definitions: harness/metrics.py.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field

from harness.client.types import LoadResult, RequestOutcome
from harness.collect.latency import MS, NS, LatencySamples, RequestTimes, Totals, family_metrics
from harness.collect.load_times import request_times
from harness.collect.slo import Slo
from harness.collect.values import measured, missing
from harness.collect.window import Window, find_window
from harness.verdict import MAX_SEND_LAG_MS

PERCENTILES = (50, 90, 95, 99, 99.9)
STEADY = ("steady_output_throughput", "steady_request_throughput")


@dataclass
class _Gathered:
    """What one pass over the outcomes leaves: columns and counts."""

    samples: LatencySamples = field(default_factory=LatencySamples)
    totals: Totals = field(default_factory=Totals)
    waits: dict[str, array] = field(default_factory=lambda: {k: array("d") for k in ("queue", "send_lag", "connect")})
    scheduled_ns: array = field(default_factory=lambda: array("q"))
    ttft_ms: array = field(default_factory=lambda: array("d"))
    tpot_ms: array = field(default_factory=lambda: array("d"))
    failures: Counter = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    notes: Counter = field(default_factory=Counter)
    num_within_slo: int = 0
    num_late: int = 0
    num_retries: int = 0
    first_due_ns: int | None = None
    last_due_ns: int = 0


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Everything that is computed from a load: metrics by name, the record's `load` block, and what the verdict needs."""

    metrics: dict[str, dict]
    block: dict
    window: Window


def load_figures(result: LoadResult, slo: Slo | None = None) -> LoadFigures:
    """Read the outcomes and compute all figures."""
    gathered = _gather(result, slo)
    window = find_window(
        gathered.scheduled_ns,
        gathered.ttft_ms,
        gathered.tpot_ms,
        concurrency=result.options.concurrency if result.is_closed_loop else None,
    )
    metrics = family_metrics(gathered.samples.values, percentiles=PERCENTILES) | gathered.totals.metrics()
    metrics |= family_metrics(gathered.waits | {"loop_lag": result.overhead.loop_lag_ms})
    metrics |= _steady_metrics(result, window) | _count_metrics(result, gathered, slo) | _client_metrics(result)
    reason = "a server's steps are not seen from outside"
    metrics |= {name: missing(name, reason) for name in ("prefill_throughput", "decode_throughput")}
    return LoadFigures(metrics, _block(result, gathered, window), window)


def _gather(result: LoadResult, slo: Slo | None) -> _Gathered:
    found = _Gathered()
    for outcome in result.outcomes():
        due = outcome.scheduled_ns
        found.first_due_ns = due if found.first_due_ns is None else min(found.first_due_ns, due)
        found.last_due_ns = max(found.last_due_ns, due)
        found.num_retries += outcome.attempts - 1
        found.notes.update(outcome.notes)
        found.num_late += (outcome.dispatched_ns - outcome.ready_ns) / MS > MAX_SEND_LAG_MS
        _add_waits(found.waits, outcome)
        if outcome.failure is not None:
            found.failures[outcome.failure] += 1
            found.details.setdefault(outcome.failure, outcome.detail)
            continue
        times = request_times(outcome)
        _add_answered(found, times)
        found.num_within_slo += slo is not None and slo.is_met(times)
    return found


def _add_waits(waits: dict[str, array], outcome: RequestOutcome) -> None:
    waits["queue"].append((outcome.ready_ns - outcome.scheduled_ns) / MS)
    waits["send_lag"].append((outcome.dispatched_ns - outcome.ready_ns) / MS)
    if outcome.sent_ns is not None:
        waits["connect"].append((outcome.sent_ns - outcome.dispatched_ns) / MS)


def _add_answered(found: _Gathered, times: RequestTimes) -> None:
    found.samples.add(times)
    found.totals.add(times)
    found.scheduled_ns.append(times.scheduled_ns)
    found.ttft_ms.append(times.ttft_ms)
    found.tpot_ms.append(times.tpot_ms if times.output_tokens > 1 else float("nan"))


def _steady_metrics(result: LoadResult, window: Window) -> dict[str, dict]:
    samples, num_tokens, num_ended = LatencySamples(), 0, 0
    if window.reason is not None:
        nothing = family_metrics(samples.values, prefix="steady_")
        return {name: missing(name, window.reason) for name in (*STEADY, *nothing)}
    for outcome in result.outcomes():
        if outcome.failure is None:
            times = request_times(outcome)
            num_tokens += sum(window.start_ns <= time < window.end_ns for time in times.token_times_ns)
            num_ended += window.start_ns <= times.token_times_ns[-1] < window.end_ns
            if window.start_ns <= times.scheduled_ns <= window.end_ns:
                samples.add(times)
    seconds = (window.end_ns - window.start_ns) / NS
    rates = dict(zip(STEADY, (num_tokens, num_ended), strict=True))
    steady = {name: measured(name, count / seconds, window.num_requests) for name, count in rates.items()}
    return steady | family_metrics(samples.values, prefix="steady_")


def _count_metrics(result: LoadResult, found: _Gathered, slo: Slo | None) -> dict[str, dict]:
    planned = result.num_planned
    bad = sum(found.failures.values()) + result.num_not_sent
    metrics = {"failed_pct": measured("failed_pct", 100.0 * bad / planned, planned)}
    metrics["offered_rate"] = _offered_rate(result, found)
    for name in ("request_goodput", "slo_attainment_pct"):
        if slo is None:
            metrics[name] = missing(name, "the workload has no `slo`")
    if slo is not None:
        share = 100.0 * found.num_within_slo / planned
        metrics["slo_attainment_pct"] = measured("slo_attainment_pct", share, planned)
        metrics["request_goodput"] = (
            measured("request_goodput", found.num_within_slo / found.totals.wall_s, found.totals.answered)
            if found.totals.answered
            else missing("request_goodput", "no request was answered")
        )
    return metrics


def _offered_rate(result: LoadResult, found: _Gathered) -> dict:
    if result.is_closed_loop:
        return missing("offered_rate", "a closed loop offers no rate: a request starts when another ends")
    seconds = (found.last_due_ns - (found.first_due_ns or 0)) / NS
    sent = result.num_planned - result.num_not_sent
    if sent < 2 or seconds <= 0:
        return missing("offered_rate", "needs two requests at different times", sent)
    return measured("offered_rate", (sent - 1) / seconds, sent)


def _client_metrics(result: LoadResult) -> dict[str, dict]:
    cost = result.overhead
    parse = (
        measured("client_parse_us", cost.parse_s * 1e6 / cost.num_chunks, cost.num_chunks)
        if cost.num_chunks
        else missing("client_parse_us", "no chunk came")
    )
    return {
        "client_cpu_pct": measured("client_cpu_pct", 100.0 * cost.cpu_s / cost.wall_s, 1),
        "client_parse_us": parse,
        "client_peak_rss_bytes": measured("client_peak_rss_bytes", cost.peak_rss_bytes, 1),
    }


def _block(result: LoadResult, found: _Gathered, window: Window) -> dict:
    warmup = list(result.outcomes(warmup="only"))
    failed = sum(found.failures.values())
    return {
        "api": result.endpoint.api,
        "loop": "closed" if result.is_closed_loop else "open",
        "concurrency": result.options.concurrency,
        "num_planned": result.num_planned,
        "num_answered": found.totals.answered,
        "num_failed": failed,
        "num_not_sent": result.num_not_sent,
        "num_retries": found.num_retries,
        "num_late": found.num_late,
        "failures": {kind: {"count": n, "first": found.details[kind]} for kind, n in found.failures.most_common()},
        "notes": dict(found.notes.most_common()),
        "warmup": {"num_requests": len(warmup), "num_failed": sum(o.failure is not None for o in warmup)},
        "window": _window_block(window, result.start_ns),
    }


def _window_block(window: Window, start_ns: int) -> dict:
    if window.reason is not None:
        return {"start_s": None, "end_s": None, "num_requests": 0, "growth": None, "reason": window.reason}
    seconds = {"start_s": (window.start_ns - start_ns) / NS, "end_s": (window.end_ns - start_ns) / NS}
    return seconds | {"num_requests": window.num_requests, "growth": window.growth, "reason": None}

