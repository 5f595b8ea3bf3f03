"""A service level objective: limits of one request's latency, and the share of requests that must keep them all."""

from dataclasses import dataclass

from harness.collect.latency import RequestTimes


@dataclass(frozen=True, slots=True)
class Slo:
    """None: no limit."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float | None = None
    attainment_pct: float = 99.0

    def is_met(self, request: RequestTimes) -> bool:
        """Whether an answered request kept every limit; a single token has no TPOT and keeps that limit."""
        return (
            (self.ttft_ms is None or request.ttft_ms <= self.ttft_ms)
            and (self.e2el_ms is None or request.e2el_ms <= self.e2el_ms)
            and (self.tpot_ms is None or request.output_tokens < 2 or request.tpot_ms <= self.tpot_ms)
        )
