"""The sections of the report below the results: plots and tables by theme, in reading order.

In: runs, measured cells, variants. Out: Section, each with what could not be drawn and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.cells import MeasuredCell
from harness.report.data import LoadedRun
from harness.report.grid import Table
from harness.report.plots import Plot, Skipped, draw_all
from harness.report.tables import definitions, detail, experts, kernels, provenance, verdicts
from harness.report.variants import Variant

MEMORY_INTRO = (
    "FP4 shrinks the experts; attention, embedding, router and norms stay BF16. What the rounding costs "
    "is measured on a held-out text."
)
REFERENCE_INTRO = (
    "The reference implementation is plain PyTorch that defines what is right. It expands FP4 to float32 "
    "before it multiplies: these figures are not FP4's speed, nor a sign of it."
)
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

    @property
    def folds_plots(self) -> bool:
        """Whether the plots start closed: timelines of many cells would push everything else away."""
        return self.anchor == "timeline" and len(self.plots) > MAX_OPEN_TIMELINES


def all_sections(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell], everyone: Sequence[Variant]) -> tuple[Section, ...]:
    """Every section that has something to show."""
    parts = [*_figures(cells, everyone), *_verdicts(runs, cells), _definitions(cells), _provenance(runs)]
    return tuple(part for part in parts if part.plots or part.tables or part.skipped or part.intro_is_all)


def _figures(cells: Sequence[MeasuredCell], everyone: Sequence[Variant]) -> list[Section]:
    drawn = draw_all(everyone)
    is_reference = any(cell.is_reference for cell in cells)
    speed = REFERENCE_INTRO if is_reference else "Output tokens a second, time to first token, latency."
    timeline = "One repeat of each request workload, request by request."
    usage = "How evenly the router uses its experts, and how often a cache of experts would hit."
    memory = drawn["memory"] + drawn["quality"]
    quality = detail.quality_table(everyone), detail.memory_table(everyone)
    routing = experts.usage_table(cells), experts.layers_table(cells), experts.cache_table(cells)
    return [
        _section("memory-quality", "Memory and quality", MEMORY_INTRO, memory, *quality),
        _section("speed", "Speed", speed, drawn["speed"], detail.speed_table(everyone)),
        _section("timeline", "Requests over time", timeline, drawn["timeline"]),
        _section("experts", "Experts", usage, drawn["experts"], *routing),
    ]


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
        missing = "The definitions are in harness/metrics.py, which is not installed here."
        return Section("definitions", "Definitions", missing, intro_is_all=True)
    intro = "Each metric is defined once, in harness/metrics.py."
    return _section("definitions", "Definitions", intro, [], found)


def _provenance(runs: Sequence[LoadedRun]) -> Section:
    scenarios = tuple((f"Scenario as resolved, run {run.run_id}", provenance.scenario_text(run)) for run in runs)
    tables = (provenance.machines_table(runs),)
    return Section("provenance", "Provenance", "Enough to run it again.", tables=tables, texts=scenarios)


def _section(anchor: str, title: str, intro: str, drawn: Sequence[Plot | Skipped], *tables: Table) -> Section:
    shown = tuple(plot for plot in drawn if isinstance(plot, Plot))
    skipped = tuple(plot for plot in drawn if isinstance(plot, Skipped))
    return Section(anchor, title, intro, shown, tuple(t for t in tables if t.groups), skipped)
