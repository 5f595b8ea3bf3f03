"""One report across GPUs: measured where a record exists, projected elsewhere, every projected figure marked.

In: runs, their measured cells, GPUs. Out: AcrossRow data, and the records of the projections. A cell that a
run dropped for want of its GPU counts as asked for, so that a scenario run on a laptop still shows what GPUs would do.
A measurement is never replaced: a projection fills a place only where no record is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.device import gpu_table
from harness.project.estimate import Estimate
from harness.project.export import batch_of
from harness.project.gpus import GpuSpec
from harness.project.projection import Ask, Projection
from harness.report.cells import MeasuredCell, Number, format_pair
from harness.report.data import LoadedRun


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cell of requests that some run planned or dropped, wherever it was to run."""

    model: str
    path: str | None
    backend: str
    precision: dict
    workload: dict

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.model, self.backend, str(self.precision["id"]), self.workload["name"]


@dataclass(frozen=True, slots=True)
class Place:
    """One (cell, GPU): a measured cell, a projection, or the reason that there is neither."""

    gpu: str
    measured: MeasuredCell | None = None
    projection: Projection | None = None
    reason: str = ""

    def figure(self, metric: str) -> Number | Estimate | None:
        """The measured number, else the estimate, else None."""
        if self.measured is not None:
            return self.measured.number(metric)
        return self.projection.metrics.get(metric) if self.projection else None


@dataclass(frozen=True, slots=True)
class AcrossRow:
    """One wanted cell on every GPU."""

    wanted: Wanted
    places: tuple[Place, ...]


def across_rows(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell], gpus: Sequence[GpuSpec]) -> list[AcrossRow]:
    """Every wanted cell on the GPUs that were measured and on `gpus`; none where no GPU is asked for."""
    if not gpus:
        return []
    measured: dict[tuple, MeasuredCell] = {}
    for cell in cells:
        if not cell.is_heldout and cell.records and cell.target_kind != "cpu":
            key = (cell.model, cell.backend, str(cell.precision["id"]), cell.workload, cell.target_kind)
            measured.setdefault(key, cell)
    slugs = {_slug(gpu.name): gpu for gpu in gpus}
    names = dict.fromkeys([*(key[-1] for key in measured), *slugs])
    rows = []
    for wanted in _wanted(runs):
        places = [
            Place(_title(slug), measured[(*wanted.key, slug)])
            if (*wanted.key, slug) in measured
            else _projected(wanted, slugs.get(slug), slug)
            for slug in names
        ]
        if any(place.measured or place.projection for place in places):
            rows.append(AcrossRow(wanted, tuple(places)))
    return rows


def _wanted(runs: Sequence[LoadedRun]) -> list[Wanted]:
    found: dict[tuple, Wanted] = {}
    for run in runs:
        models = (run.info.get("scenario") or {}).get("models") or ()
        paths = {model["name"]: model.get("path") for model in models}
        for cell in [*(run.plan.get("cells") or ()), *(run.plan.get("dropped") or ())]:
            if _is_whole(cell):
                made = Wanted(cell["model"], paths.get(cell["model"]), cell["backend"], cell["precision"], cell["workload"])
                found.setdefault(made.key, made)
    order = {"bf16": 0}
    return sorted(found.values(), key=lambda made: (made.model, order.get(made.precision["weights"], 1)))


def _is_whole(cell: dict) -> bool:
    """Whether a planned or dropped cell says enough to be projected; records of other tools may not."""
    workload, precision = cell.get("workload"), cell.get("precision")
    if not isinstance(workload, dict) or not isinstance(precision, dict) or workload.get("kind") != "requests":
        return False
    return {"arrival", "prompt_tokens", "output_tokens", "num_requests"} <= workload.keys() and "weights" in precision


def _projected(wanted: Wanted, gpu: GpuSpec | None, slug: str) -> Place:
    from harness.project.kernels import candidates_on
    from harness.project.projection import model_by_name, project

    if gpu is None:
        return Place(_title(slug), reason=f"not measured on {_title(slug)}, and no projection was asked for (--project)")
    ask = ask_of(wanted.workload)
    if ask is None:
        return Place(gpu.name, reason="arrivals at a rate or drawn lengths: see `harness advise --rate`")
    pair = wanted.precision["weights"], wanted.precision["activations"]
    rows = [row for row in candidates_on(gpu) if (row.weights, row.activations) == pair]
    own = [row for row in rows if row.engine == wanted.backend] or rows
    if not own:
        return Place(gpu.name, reason=f"no kernel with a measured curve multiplies {format_pair(*pair)} on {gpu.family}")
    made = [project(gpu, model_by_name(wanted.path or wanted.model, "models"), row, ask) for row in own]
    best = max(made, key=_middle)
    if best.reason:
        return Place(gpu.name, reason=best.reason)
    return Place(gpu.name, projection=best)


def _middle(projection: Projection) -> float:
    rate = projection.metrics.get("output_throughput")
    return -1.0 if rate is None else (rate.low * rate.high) ** 0.5


def ask_of(workload: dict) -> Ask | None:
    batch = batch_of(workload)
    return None if batch is None else Ask(workload["prompt_tokens"], workload["output_tokens"], batch)


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _title(slug: str) -> str:
    """`rtx-5090` as it stands in data/gpus.yaml."""
    return next((name for name in gpu_table() if _slug(name) == slug), slug)


def projection_records(rows: Iterable[AcrossRow]) -> list[dict]:
    """What stands in projections.json: one record a projected place, marked as such."""
    return [
        place.projection.to_json() | {"workload_name": row.wanted.workload["name"], "backend": row.wanted.backend}
        for row in rows
        for place in row.places
        if place.projection is not None
    ]
