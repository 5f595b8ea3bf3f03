"""The report as data: what HTML and Markdown both print.

In: loaded runs. Out: Page: leads, answers, notices, results, sections of plots and tables.
It renders nothing; html.py and markdown.py do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.project.gpus import gpu_spec
from harness.report.across import across_rows, projection_records
from harness.report.answer import Answer, answers, leads
from harness.report.beyond import across_section, claims_section
from harness.report.cells import MeasuredCell, measured_cells
from harness.report.data import LoadedRun
from harness.report.grid import Table
from harness.report.notices import Notice, notices
from harness.report.plots import Plot
from harness.report.sections import Section, all_sections
from harness.report.tables import summary
from harness.report.variants import variants

QUESTION = "What did FP4 cost, and what did it buy here?"


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    leads: tuple[str, ...]
    answers: tuple[Answer, ...]
    notices: tuple[Notice, ...]
    results: tuple[Table, ...]
    sections: tuple[Section, ...]
    projections: tuple[dict, ...] = ()

    @property
    def plots(self) -> tuple[Plot, ...]:
        return tuple(plot for section in self.sections for plot in section.plots)


def build(runs: Sequence[LoadedRun], project: Sequence[str] = ()) -> Page:
    """Everything that the report says, from the records of `runs`; cells that `project` GPUs lack are projected."""
    cells = measured_cells(runs)
    everyone = variants(cells)
    across = across_rows(runs, cells, [gpu_spec(name, "--project") for name in project])
    found = answers(everyone)
    results = tuple(
        t for t in (summary.summary_table(everyone), summary.machines_table(everyone)) if t is not None and t.groups
    )
    shown = found if any(answer.is_measured for answer in found) else ()
    return Page(
        ", ".join(dict.fromkeys(run.scenario_name for run in runs)),
        _subtitle(runs, cells),
        leads(everyone, found),
        shown,
        notices(runs, cells),
        results,
        (*across_section(across), *claims_section(runs), *all_sections(runs, cells, everyone)),
        tuple(projection_records(across)),
    )


def _subtitle(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell]) -> str:
    targets = ", ".join(dict.fromkeys(cell.target for cell in cells)) or "no target"
    models = ", ".join(dict.fromkeys(cell.model for cell in cells)) or "no model"
    days = ", ".join(dict.fromkeys(str(run.info.get("started_utc") or "")[:10] for run in runs))
    return " · ".join(filter(None, (models, targets, days)))
