"""The sections of the report below the results: plots and tables by theme, in reading order.

In: runs, measured cells, variants. Out: Section, each with what could not be drawn and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.report.batches import batches_of
from harness.report.cells import MeasuredCell
from harness.report.data import LoadedRun
from harness.report.grid import Table
from harness.report.plots import Plot, Skipped, draw_all
from harness.report.tables import (
    backends,
    batches,
    definitions,
    detail,
    experts,
    kernels,
    ledger,
    profile,
    provenance,
    serving,
    telemetry,
    verdicts,
)
from harness.report.timeline import Timeline, timelines
from harness.report.variants import Variant

MEMORY_INTRO = (
    "FP4 shrinks the experts; attention, embedding, router and norms stay BF16. What the rounding costs "
    "is measured on a held-out text."
)
REFERENCE_INTRO = (
    "The reference implementation is plain PyTorch that defines what is right. It expands FP4 to float32 "
    "before it multiplies: these figures are not FP4's speed, nor a sign of it."
)
BATCHES_INTRO = (
    "More requests at once give more tokens a second and make each request wait longer. Beside each workload stands what the "
    "device could do at most with the same batch."
)
TELEMETRY_INTRO = (
    "As the devices report them while requests ran. Utilisation says that some kernel ran, not how much of the GPU it used."
)
SERVING_INTRO = (
    "Latency counts from the time at which a request was due, so that a server that stands still is seen. Failed requests "
    "are in no latency; they are counted, and too many make a cell INVALID."
)
PROFILE_INTRO = "By range: the host's time, what the kernels launched in it kept the GPU busy, and what listening cost."
MAX_OPEN_TIMELINES = 2


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report. `plots` keep their order; `skipped` says which could not be drawn, and why."""

    anchor: str
    title: str
    intro: str
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()  # (summary, preformatted text)
    intro_is_all: bool = False  # there is nothing but the intro, and it is to be shown
    timelines: tuple[Timeline, ...] = ()  # HTML only: they are drawn by a script
    notes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (of what, or "" for all; sentences), listed below the intro

    @property
    def folds_plots(self) -> bool:
        """Whether the plots start closed: timelines of many cells would push everything else away."""
        return self.anchor == "timeline" and len(self.plots) > MAX_OPEN_TIMELINES


def all_sections(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell], everyone: Sequence[Variant]) -> tuple[Section, ...]:
    """Every section that has something to show."""
    parts = [
        *_backends(cells, everyone),
        *_figures(cells, everyone),
        *_verdicts(runs, cells),
        _definitions(cells),
        _provenance(runs),
    ]
    return tuple(part for part in parts if part.plots or part.tables or part.skipped or part.intro_is_all or part.timelines)


def _backends(cells: Sequence[MeasuredCell], everyone: Sequence[Variant]) -> list[Section]:
    """Nothing where there is one backend and it decided nothing by itself."""
    together = backends.backends_table(everyone)
    intro = "The same requests, the same text, the same weights, through each engine."
    tables = [] if together is None else [together]
    return [_section("backends", "Backends", intro, [], *tables, backends.engines_table(cells))]


def _figures(cells: Sequence[MeasuredCell], everyone: Sequence[Variant]) -> list[Section]:
    drawn = draw_all(everyone)
    is_reference = any(cell.is_reference for cell in cells)
    speed = REFERENCE_INTRO if is_reference else "Output tokens a second, time to first token, latency."
    usage = "How evenly the router uses its experts, and how often a cache of experts would hit."
    memory = drawn["memory"] + drawn["quality"]
    limits = batches.limits_table(list(batches_of(everyone)))
    quality = detail.quality_table(everyone), detail.memory_table(everyone), ledger.ledger_table(cells)
    loads = serving.load_table(cells), serving.sweep_table(cells), serving.client_table(cells)
    routing = experts.usage_table(cells), experts.layers_table(cells), experts.cache_table(cells)
    return [
        _section("memory-quality", "Memory and quality", MEMORY_INTRO, memory, *quality),
        _section("batches", "Throughput against latency", BATCHES_INTRO, drawn["batches"], limits),
        _section("speed", "Speed", speed, drawn["speed"], detail.speed_table(everyone)),
        _section("serving", "Under load", SERVING_INTRO, drawn["serving"], *loads),
        _profile_section(cells, drawn["profile"]),
        _timeline_section(cells, drawn["timeline"]),
        _section("telemetry", "Power, clocks and utilisation", TELEMETRY_INTRO, [], telemetry.telemetry_table(cells)),
        _section("experts", "Experts", usage, drawn["experts"], *routing),
    ]


def _profile_section(cells: Sequence[MeasuredCell], drawn: Sequence[Plot | Skipped]) -> Section:
    """Empty, and so left out, where no cell was profiled."""
    if not any(True for _ in profile.blocks(cells)):
        return Section("profile", "Where the time goes", "")
    tables = (
        profile.ranges_table(cells),
        profile.roofline_table(cells),
        profile.layers_table(cells),
        profile.overhead_table(cells),
    )
    return replace(_section("profile", "Where the time goes", PROFILE_INTRO, drawn, *tables), notes=profile.notes(cells))


def _timeline_section(cells: Sequence[MeasuredCell], drawn: Sequence[Plot | Skipped]) -> Section:
    """Pictures of every cell, and the zoomable ones of the first few."""
    intro = "One repeat of each request workload, request by request: phases, telemetry and experts hit on one clock."
    found, note = timelines(cells)
    section = _section("timeline", "Requests over time", f"{intro} {note}".strip(), drawn)
    return replace(section, timelines=found)


def _verdicts(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell]) -> list[Section]:
    intro = "Which figures stand, which do not, and what was not measured."
    failed, dropped = verdicts.failed_table(cells), verdicts.dropped_table(runs)
    tables = verdicts.cells_table(cells), failed, dropped, verdicts.not_run_table(runs)
    chosen = kernels.choices_table(cells)
    return [
        _section("verdicts", "Verdicts", intro, [], *tables),
        _section("kernels", "Kernels", "Which implementation ran each op.", [], chosen),
    ]


def _definitions(cells: Sequence[MeasuredCell]) -> Section:
    found = definitions.definitions_table(cells)
    if found is None:
        missing = "The definitions are in harness/metrics, which is not installed here."
        return Section("definitions", "Definitions", missing, intro_is_all=True)
    intro = "Each metric is defined once, in harness/metrics."
    return _section("definitions", "Definitions", intro, [], found)


def _provenance(runs: Sequence[LoadedRun]) -> Section:
    scenarios = tuple((f"Scenario as resolved, run {run.run_id}", provenance.scenario_text(run)) for run in runs)
    tables = (provenance.machines_table(runs),)
    return Section("provenance", "Provenance", "Enough to run it again.", tables=tables, texts=scenarios)


def _section(anchor: str, title: str, intro: str, drawn: Sequence[Plot | Skipped], *tables: Table) -> Section:
    shown = tuple(plot for plot in drawn if isinstance(plot, Plot))
    skipped = tuple(plot for plot in drawn if isinstance(plot, Skipped))
    return Section(anchor, title, intro, shown, tuple(t for t in tables if t.groups), skipped)


def make_section(anchor: str, title: str, intro: str, drawn: Sequence[Plot | Skipped], *tables: Table | None) -> Section:
    """The same for pages outside the report; a table that is None or has no rows is left out."""
    return _section(anchor, title, intro, drawn, *(found for found in tables if found is not None))
