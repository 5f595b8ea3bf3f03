"""Serving figures of requests that an engine in this process answered: steady window, goodput, offered rate.

Beside latency and throughput, which `harness.collect.latency` gives. The same definitions as for a served load.
"""

from dataclasses import dataclass

from harness.collect.latency import RequestTimes, Totals
from harness.collect.slo import slo_metrics, slo_of
from harness.collect.steady import offered_rate, steady_metrics, window_block
from harness.collect.values import measured, missing
from harness.collect.window import find_window
from harness.scenario.schema import WorkloadSpec
from harness.workload.bounds import source_block


@dataclass(frozen=True, slots=True)
class InProcessFigures:
    """Metrics by name, and the record's `load` block."""

    metrics: dict[str, dict]
    block: dict


def in_process_figures(requests: list[RequestTimes], spec: WorkloadSpec) -> InProcessFigures:
    """All serving figures of one repeat."""
    is_closed = spec.arrival.kind == "closed"
    answered = [request for request in requests if request.token_times_ns]
    totals, slo = Totals(), slo_of(spec)
    for request in answered:
        totals.add(request)
    window = find_window(
        [request.scheduled_ns for request in answered],
        [request.ttft_ms for request in answered],
        [request.tpot_ms if request.output_tokens > 1 else float("nan") for request in answered],
        concurrency=spec.arrival.concurrency if is_closed else None,
    )
    dues = [request.scheduled_ns for request in requests]
    num_within = sum(slo is not None and slo.is_met(request) for request in answered)
    metrics = steady_metrics(lambda: answered, window) | slo_metrics(slo, num_within, len(requests), totals)
    metrics["offered_rate"] = offered_rate(None if is_closed else (min(dues), max(dues)), len(dues))
    failed = 100.0 * (len(requests) - len(answered)) / len(requests)
    metrics["failed_pct"] = measured("failed_pct", failed, len(requests))
    metrics["p90_queue_ms"] = missing("p90_queue_ms", "in this process a request waits inside the engine: it is in its TTFT")
    block = {
        "loop": "closed" if is_closed else "open",
        "num_planned": len(requests),
        "num_answered": len(answered),
        "window": window_block(window, min(dues)),
        "source": source_block(spec),
    }
    return InProcessFigures(metrics, block)
