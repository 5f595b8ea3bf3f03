"""A load's figures: LoadResult -> metrics of a record, and its `load` block (counts, window, the client's own cost).

Outcomes are read from disk twice (all figures; then those of the steady window) and never held as objects.
Failed requests are in no latency and no throughput; they are counted. Definitions: harness/metrics.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.client.types import LoadResult, RequestOutcome
from harness.collect.latency import MS, LatencySamples, RequestTimes, Totals, family_metrics
from harness.collect.load_times import request_times
from harness.collect.slo import Slo, slo_metrics
from harness.collect.steady import offered_rate, steady_metrics, window_block
from harness.collect.values import measured, missing
from harness.collect.window import Window, find_window
from harness.verdict import MAX_SEND_LAG_MS

PERCENTILES = (50, 90, 95, 99, 99.9)


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
    metrics |= steady_metrics(lambda: answered(result), window)
    metrics |= _count_metrics(result, gathered, slo) | _client_metrics(result)
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


def answered(result: LoadResult) -> Iterator[RequestTimes]:
    """Times of the requests that did not fail, read from disk."""
    return (request_times(outcome) for outcome in result.outcomes() if outcome.failure is None)


def _count_metrics(result: LoadResult, found: _Gathered, slo: Slo | None) -> dict[str, dict]:
    planned = result.num_planned
    bad = sum(found.failures.values()) + result.num_not_sent
    dues = None if result.is_closed_loop else (found.first_due_ns or 0, found.last_due_ns)
    return {
        "failed_pct": measured("failed_pct", 100.0 * bad / planned, planned),
        "offered_rate": offered_rate(dues, planned - result.num_not_sent),
    } | slo_metrics(slo, found.num_within_slo, planned, found.totals)


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
        "window": window_block(window, result.start_ns),
    }

