"""A service level objective: limits of one request's latency, and the share of requests that must keep them all."""

from dataclasses import dataclass

from harness.collect.latency import RequestTimes, Totals
from harness.collect.values import measured, missing
from harness.scenario.schema import WorkloadSpec


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


def slo_of(spec: WorkloadSpec) -> Slo | None:
    """The workload's SLO, None where it has none."""
    return None if spec.slo is None else Slo(**spec.slo.model_dump())


def slo_metrics(slo: Slo | None, num_within: int, num_planned: int, totals: Totals) -> dict[str, dict]:
    """Goodput and attainment; a request that failed or was never sent has not attained."""
    if slo is None:
        return {name: missing(name, "the workload has no `slo`") for name in ("request_goodput", "slo_attainment_pct")}
    attained = measured("slo_attainment_pct", 100.0 * num_within / num_planned, num_planned)
    if not totals.answered:
        return {"request_goodput": missing("request_goodput", "no request was answered"), "slo_attainment_pct": attained}
    goodput = measured("request_goodput", num_within / totals.wall_s, totals.answered)
    return {"request_goodput": goodput, "slo_attainment_pct": attained}
