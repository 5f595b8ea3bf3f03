"""A rate sweep: one open-loop measurement a rate -> the knee, and the highest rate that meets the SLO.

In: a cell whose workload's arrival is a sweep, and how to measure a cell. Out: one result, with the figures of the highest
rate that met the SLO (of the lowest rate where none did), every point in `sweep`, `max_slo_rate` and `knee_rate`.
Rates rise in equal ratios until one misses the SLO and throughput no longer follows; then the gap between the highest
rate that met the SLO and the next one that did not is halved (by ratio) `refine` times. It measures nothing itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from harness.collect.values import measured, missing
from harness.scenario.arrival import SweepArrival
from harness.scenario.schema import WorkloadSpec

KEEPS_UP = 0.95
"""Throughput in the steady window over the offered rate, from which the server follows the load."""
SHOWN = (
    "offered_rate", "request_throughput", "steady_request_throughput", "output_throughput", "request_goodput",
    "slo_attainment_pct", "failed_pct", "median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "p99_tpot_ms", "p99_e2el_ms",
)  # fmt: skip

Measure = Callable[[dict], dict]


@dataclass(frozen=True, slots=True)
class Point:
    """One rate and what came of it."""

    rate_per_s: float
    result: dict
    attains: bool
    keeps_up: bool

    @property
    def offered_rate(self) -> float:
        """What the drawn arrivals amount to: a short Poisson schedule differs from its nominal rate."""
        offered = self.result["metrics"]["offered_rate"]["value"]
        return self.rate_per_s if offered is None else offered


def is_sweep(cell: dict) -> bool:
    """Whether a cell, as a worker is told it, asks for a sweep."""
    return cell["kind"] == "requests" and cell["workload"]["arrival"]["kind"] == "sweep"


def measure_sweep(cell: dict, measure: Measure) -> dict:
    """Measure the rates of a cell's sweep; the result of the cell."""
    spec = WorkloadSpec.model_validate(cell["workload"])

    def at(rate_per_s: float) -> Point:
        one = spec.model_copy(update={"arrival": spec.arrival.at(rate_per_s)}).model_dump(mode="json")
        stem = f"{cell['stem']}-rate{rate_per_s:.4g}"
        return _point(rate_per_s, measure(cell | {"workload": one, "stem": stem}), spec)

    points = find_rates(spec.arrival, at)
    return _joined(points)


def find_rates(arrival: SweepArrival, at: Callable[[float], Point]) -> list[Point]:
    """The points of a sweep, in rising order of the rate."""
    ratio = (arrival.to_rate_per_s / arrival.from_rate_per_s) ** (1 / (arrival.num_rates - 1))
    points = []
    for index in range(arrival.num_rates):
        points.append(at(arrival.from_rate_per_s * ratio**index))
        if not points[-1].attains and not points[-1].keeps_up:
            break
    for _ in range(arrival.refine):
        met, missed = _bracket(points)
        if met is None or missed is None:
            break
        points.append(at(math.sqrt(met.rate_per_s * missed.rate_per_s)))
        points.sort(key=lambda point: point.rate_per_s)
    return points


def _bracket(points: list[Point]) -> tuple[Point | None, Point | None]:
    """(highest rate below which all met the SLO, the first that did not); None where there is none."""
    met = None
    for point in points:
        if not point.attains:
            return met, point
        met = point
    return met, None


def _point(rate_per_s: float, result: dict, spec: WorkloadSpec) -> Point:
    metrics = result["metrics"]
    attained = metrics["slo_attainment_pct"]["value"]
    is_valid = result["verdict"]["state"] != "INVALID"
    steady = metrics["steady_request_throughput"]["value"]
    served = metrics["request_throughput"]["value"] if steady is None else steady
    offered = metrics["offered_rate"]["value"]
    keeps_up = served is not None and offered is not None and served >= KEEPS_UP * offered
    return Point(rate_per_s, result, is_valid and attained is not None and attained >= spec.slo.attainment_pct, keeps_up)


def _joined(points: list[Point]) -> dict:
    met, missed = _bracket(points)
    chosen = met or points[0]
    n = len(points)
    metrics = dict(chosen.result["metrics"])
    if met is None:
        metrics["max_slo_rate"] = missing("max_slo_rate", f"no rate met the SLO, from {points[0].rate_per_s:g}/s on", n)
    else:
        metrics["max_slo_rate"] = measured("max_slo_rate", met.offered_rate, n)
    following = list(takewhile(lambda point: point.keeps_up, points))
    metrics["knee_rate"] = (
        measured("knee_rate", following[-1].offered_rate, n)
        if following
        else missing("knee_rate", "throughput did not follow the load at the lowest rate", n)
    )
    joined = dict(chosen.result) | {"metrics": metrics, "sweep": [_row(point) for point in points]}
    joined["samples"] = chosen.result["samples"] | {
        f"{name}@{point.rate_per_s:.4g}": path for point in points for name, path in point.result["samples"].items()
    }
    message = _open_end(points, met, missed)
    if message:
        joined["verdict"] = _with_warning(joined["verdict"], "sweep_open", message)
    return joined


def _open_end(points: list[Point], met: Point | None, missed: Point | None) -> str:
    """Why the limit was not found between two rates; empty where it was."""
    if met is None:
        return f"no rate from {points[0].rate_per_s:g}/s on met the SLO: the limit lies below; lower from_rate_per_s"
    if missed is None:
        return f"every rate up to {points[-1].rate_per_s:g}/s met the SLO: the limit lies above; raise to_rate_per_s"
    return ""


def _row(point: Point) -> dict:
    """One rate in the record's `sweep`."""
    metrics = {name: point.result["metrics"].get(name) for name in SHOWN}
    state = {"attains_slo": point.attains, "keeps_up": point.keeps_up, "verdict": point.result["verdict"]}
    return {"rate_per_s": point.rate_per_s, "metrics": metrics} | state


def _with_warning(verdict: dict, code: str, message: str) -> dict:
    state = "WARN" if verdict["state"] == "VALID" else verdict["state"]
    return {"state": state, "reasons": [*verdict["reasons"], {"code": code, "message": message}]}
