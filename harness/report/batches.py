"""Workloads of one variant that differ in batch or prompt length: throughput against latency, and the roofline's limit.

In: variants. Out: `Batches`, one a variant with enough such workloads. It draws nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.profile.limit import WorkloadLimit
from harness.project.engines import MIN_OUTPUT
from harness.project.export import batch_of
from harness.report.ceilings import FoundCeilings, ceilings_for
from harness.report.cells import MeasuredCell, Number
from harness.report.limits import limit_of
from harness.report.variants import Variant

THROUGHPUT, LATENCY = "output_throughput", "median_itl_ms"
MIN_WORKLOADS = 3
"""Two batches stand side by side in the table of results; from three on there is a curve."""


@dataclass(frozen=True, slots=True)
class BatchPoint:
    """One workload: `batch` requests at once of `prompt` tokens in and `output` out. `reason` says why `limit` is None."""

    cell: MeasuredCell
    batch: int
    prompt: int
    output: int
    routing: str  # as imposed; empty for the model's own
    limit: WorkloadLimit | None
    reason: str | None = None

    @property
    def series(self) -> tuple[int, int, str]:
        """What points joined by one line have in common."""
        return self.prompt, self.output, self.routing

    @property
    def throughput(self) -> Number:
        return self.cell.number(THROUGHPUT)

    @property
    def latency(self) -> Number:
        return self.cell.number(LATENCY)

    @property
    def is_measured(self) -> bool:
        return self.throughput.median is not None and self.latency.median is not None

    @property
    def experts_hit(self) -> float:
        """Distinct experts of a layer that a decode step hit, mean over layers; only where there is a limit."""
        usage = next(record["experts"] for record in self.cell.records if record.get("experts"))
        return fmean(layer["active_per_step"] for layer in usage["layers"])

    @property
    def share(self) -> float | None:
        """Throughput over its limit."""
        if self.limit is None or self.throughput.median is None:
            return None
        return self.throughput.median / self.limit.output_tokens_per_s

    @property
    def latency_share(self) -> float | None:
        """The limit of a decode step over the time between tokens."""
        return self.limit.decode_ms / self.latency.median if self.limit is not None and self.latency.median else None


@dataclass(frozen=True, slots=True)
class Batches:
    """The points of one variant, by series and batch; `ceilings` is a reason where there are none."""

    variant: Variant
    points: tuple[BatchPoint, ...]
    ceilings: FoundCeilings | str

    @property
    def head(self) -> MeasuredCell:
        return self.variant.head


def batches_of(everyone: Sequence[Variant]) -> Iterator[Batches]:
    """Variants with `MIN_WORKLOADS` pairs of batch and prompt or more, failed ones counted."""
    cells = [cell for variant in everyone for cell in variant.cells]
    for variant in everyone:
        sized = [(cell, batch) for cell in variant.requests if (batch := _batch(cell)) is not None]
        if len({(batch, cell.first["workload"]["prompt_tokens"]) for cell, batch in sized}) < MIN_WORKLOADS:
            continue
        found = ceilings_for(variant.head, cells)
        points = [_point(cell, batch, found) for cell, batch in sized]
        points.sort(key=lambda point: (bool(point.routing), *point.series, point.batch))
        yield Batches(variant, tuple(points), found)


def _batch(cell: MeasuredCell) -> int | None:
    """Requests at once of a workload that decodes long enough; None for others, and for records that do not say."""
    workload = cell.first["workload"]
    if "kind" not in (workload.get("arrival") or {}) or (batch := batch_of(workload)) is None:
        return None
    return batch if workload["output_tokens"] >= MIN_OUTPUT else None


def _point(cell: MeasuredCell, batch: int, found: FoundCeilings | str) -> BatchPoint:
    workload = cell.first["workload"]
    limit = found if isinstance(found, str) else limit_of(cell, found) if cell.records else cell.number(THROUGHPUT).reason
    sizes = batch, workload["prompt_tokens"], workload["output_tokens"], (workload.get("routing") or "").rpartition("/")[2]
    return BatchPoint(cell, *sizes, None, limit) if isinstance(limit, str) else BatchPoint(cell, *sizes, limit)
