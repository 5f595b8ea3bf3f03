"""One report across GPUs: measured where a record exists, projected elsewhere, every projected figure marked.

In: runs, their measured cells, names of GPUs. Out: AcrossRow data, a Table, and the records of the projections. A cell that a
run dropped for want of its GPU counts as asked for, so that a scenario run on a laptop still shows what GPUs would do.
A measurement is never replaced: a projection fills a place only where no record is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.device import gpu_table
from harness.project.estimate import Estimate
from harness.project.gpus import GpuSpec
from harness.project.projection import Ask, Projection
from harness.report.cells import MeasuredCell, Number, format_pair
from harness.report.data import LoadedRun
from harness.report.grid import Entry, Footnotes, Group, Table, spread, table
from harness.report.numbers import quantity, split_quantity

METRICS = ("output_throughput", "median_ttft_ms")


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
    ask = _ask(wanted.workload)
    if ask is None:
        return Place(gpu.name, reason="requests arrive at a rate: see `harness advise --rate`")
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


def _ask(workload: dict) -> Ask | None:
    arrival = workload["arrival"]
    batch = {"closed": arrival.get("concurrency"), "all_at_once": workload["num_requests"]}.get(arrival["kind"])
    if batch is None:
        return None
    return Ask(workload["prompt_tokens"], workload["output_tokens"], min(batch, workload["num_requests"]))


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _title(slug: str) -> str:
    """`rtx-5090` as it stands in data/gpus.yaml."""
    return next((name for name in gpu_table() if _slug(name) == slug), slug)


def across_table(rows: Sequence[AcrossRow]) -> Table | None:
    """A column a GPU, a group a (model, workload); the mark stands in every projected entry."""
    if not rows:
        return None
    notes = Footnotes()
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for row in rows:
        precision = row.wanted.precision
        method = precision.get("method") or "none"
        head = Entry(
            format_pair(precision["weights"], precision["activations"]),
            detail="" if method == "none" else f"method {method}",
            tone="head",
        )
        label = f"{row.wanted.model} · {_workload_text(row.wanted.workload)}"
        groups.setdefault(label, []).append((head, *(_entry(place, notes) for place in row.places)))
    return table(
        "Output tokens/s, with the median time to first token below. Orange and a tilde or a range: PROJECTED, not measured; "
        "a range alone is an architecture that was never measured (unvalidated).",
        ("Weights × activations", *(place.gpu for place in rows[0].places)),
        [Group(label, tuple(members)) for label, members in groups.items()],
        notes,
    )


def _workload_text(workload: dict) -> str:
    ask = _ask(workload)
    sizes = f"{workload['prompt_tokens']} in, {workload['output_tokens']} out"
    return f"{workload['name']} ({sizes}{'' if ask is None else f', batch {ask.batch}'})"


def _entry(place: Place, notes: Footnotes) -> Entry:
    speed, first = (place.figure(metric) for metric in METRICS)
    if isinstance(speed, Estimate):
        kernel = place.projection.candidate
        detail = f"{speed.label}; TTFT {first.text}; {kernel.kernel}" + (" (stand-in)" if kernel.stand_in else "")
        return Entry(speed.text.replace(f" {speed.unit}", ""), speed.unit, detail, tone="projected")
    if isinstance(speed, Number) and speed.median is not None:
        text, unit = split_quantity(speed.median, speed.unit)
        detail = "; ".join(filter(None, ["measured", spread(speed), first.median and f"TTFT {quantity(first.median, 'ms')}"]))
        return Entry(text, unit, detail)
    return notes.dash(place.reason or getattr(speed, "reason", None))


def published_table(rows: Sequence[AcrossRow]) -> Table | None:
    """Figures that others published for these GPUs, beside ranges that nobody here could check."""
    from harness.project.curves import data_file

    names = {place.gpu for row in rows for place in row.places}
    found = [
        (Entry(point["gpu"], tone="head"), Entry(point["model"]), Entry(point["figure"], detail=point["conditions"]),
         Entry(point["source"], tone="text"))
        for point in data_file("published.yaml")["points"]
        if point["gpu"] in names
    ]  # fmt: skip
    if not found:
        return None
    caption = "Published by others, never run here: printed beside the ranges, not used to compute them."
    return table(caption, ("GPU", "Model", "Figure", "Source"), [Group("", tuple(found))])


def projection_records(rows: Iterable[AcrossRow]) -> list[dict]:
    """What stands in projections.json: one record a projected place, marked as such."""
    return [
        place.projection.to_json() | {"workload_name": row.wanted.workload["name"], "backend": row.wanted.backend}
        for row in rows
        for place in row.places
        if place.projection is not None
    ]
