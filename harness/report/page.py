"""The report as data: what HTML and Markdown both print.

In: loaded runs. Out: Page: leads, answers, notices, results, sections of plots and tables.
It renders nothing; html.py and markdown.py do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.answer import Answer, answers, leads
from harness.report.cells import MeasuredCell, measured_cells
from harness.report.data import LoadedRun
from harness.report.grid import Table
from harness.report.notices import Notice, notices
from harness.report.plots import Plot, Skipped, draw_all
from harness.report.tables import detail, experts, provenance, summary, verdicts
from harness.report.variants import Variant, variants

MEMORY_INTRO = (
    "FP4 shrinks the experts; attention, embedding, router and norms stay BF16. What the rounding costs is measured on a "
    "held-out text that the model was not trained on."
)
QUESTION = "What did FP4 cost, and what did it buy here?"


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


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    subtitle: str
    leads: tuple[str, ...]
    answers: tuple[Answer, ...]
    notices: tuple[Notice, ...]
    results: tuple[Table, ...]
    sections: tuple[Section, ...]

    @property
    def plots(self) -> tuple[Plot, ...]:
        return tuple(plot for section in self.sections for plot in section.plots)


def build(runs: Sequence[LoadedRun]) -> Page:
    """Everything that the report says, from the records of `runs`."""
    cells = measured_cells(runs)
    everyone = variants(cells)
    found = answers(everyone)
    results = tuple(
        t
        for t in (summary.summary_table(everyone), summary.machines_table(everyone))
        if t is not None and t.groups
    )
    return Page(
        ", ".join(dict.fromkeys(run.scenario_name for run in runs)),
        _subtitle(runs, cells),
        leads(everyone, found),
        found,
        notices(runs, cells),
        results,
        tuple(_sections(runs, cells, everyone)),
    )


def _subtitle(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell]) -> str:
    targets = ", ".join(dict.fromkeys(cell.target for cell in cells)) or "no target"
    models = ", ".join(dict.fromkeys(cell.model for cell in cells)) or "no model"
    days = ", ".join(dict.fromkeys(str(run.info.get("started_utc") or "")[:10] for run in runs))
    return " · ".join(filter(None, (models, targets, days)))


def _sections(
    runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell], everyone: Sequence[Variant]
) -> list[Section]:
    drawn = draw_all(everyone)
    parts = [
        _section(
            "memory-quality",
            "Memory and quality",
            MEMORY_INTRO,
            [*drawn["memory"], *drawn["quality"]],
            detail.quality_table(everyone),
            detail.memory_table(everyone),
        ),
        _section("speed", "Speed", _speed_intro(cells), drawn["speed"], detail.speed_table(everyone)),
        _section(
            "timeline",
            "Requests over time",
            "One repeat of each request workload, request by request.",
            drawn["timeline"],
        ),
        _section(
            "experts",
            "Experts",
            "How evenly the router uses its experts, and how often a cache of experts would hit.",
            drawn["experts"],
            experts.usage_table(cells),
            experts.layers_table(cells),
            experts.cache_table(cells),
        ),
        _section(
            "verdicts",
            "Verdicts",
            "Which figures stand, which do not, and what was not measured.",
            [],
            verdicts.cells_table(cells),
            verdicts.failed_table(cells),
            verdicts.dropped_table(runs),
            verdicts.not_run_table(runs),
        ),
        _section(
            "kernels", "Kernels", "Which implementation ran each op.", [], provenance.choices_table(cells)
        ),
        _definitions(cells),
        _section(
            "provenance",
            "Provenance",
            "Enough to run it again.",
            [],
            provenance.machines_provenance(runs),
            texts=tuple(
                (f"Scenario as resolved, run {run.run_id}", provenance.scenario_text(run)) for run in runs
            ),
        ),
    ]
    return [
        part
        for part in parts
        if part.plots or part.tables or part.skipped or part.texts or part.anchor == "definitions"
    ]


def _section(
    anchor: str,
    title: str,
    intro: str,
    drawn: Sequence[Plot | Skipped],
    *tables: Table,
    texts: tuple[tuple[str, str], ...] = (),
) -> Section:
    shown = tuple(plot for plot in drawn if isinstance(plot, Plot))
    skipped = tuple(plot for plot in drawn if isinstance(plot, Skipped))
    return Section(anchor, title, intro, shown, tuple(t for t in tables if t.groups), skipped, texts)


def _speed_intro(cells: Sequence[MeasuredCell]) -> str:
    if any(cell.is_reference for cell in cells):
        return (
            "The reference implementation is plain PyTorch that defines what is right. It expands FP4 to float32 before it "
            "multiplies, so these figures are not FP4's speed and say nothing about an FP4 kernel."
        )
    return "Output tokens a second, time to first token, and what each request saw."


def _definitions(cells: Sequence[MeasuredCell]) -> Section:
    found = provenance.definitions_table(cells)
    if found is None:
        return Section(
            "definitions",
            "Definitions",
            "The definitions are in harness/metrics.py, which is not installed here.",
        )
    return _section(
        "definitions", "Definitions", "Each metric is defined once, in harness/metrics.py.", [], found
    )
