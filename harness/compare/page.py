"""A comparison as the report's Page, so that HTML and Markdown look and behave like a report.

In: Comparison. Out: Page: leads, notices, tables, plots, definitions, provenance.
"""

from harness.compare import tables
from harness.compare.build import Comparison
from harness.compare.plots import draw_all
from harness.compare.words import leads, method_note
from harness.report.notices import Notice
from harness.report.page import Page
from harness.report.sections import Section, make_section
from harness.report.tables import definitions, provenance

QUESTION = "What changed, and is it more than noise?"


def build(comparison: Comparison) -> Page:
    """Everything that the comparison says."""
    results = (tables.primary_table(comparison), tables.exact_table(comparison))
    return Page(
        ", ".join(dict.fromkeys(run.scenario_name for run in comparison.runs)),
        _subtitle(comparison),
        tuple(leads(comparison)),
        (),
        _notices(comparison),
        tuple(found for found in results if found.groups),
        tuple(part for part in _sections(comparison) if part.plots or part.tables or part.skipped),
    )


def _subtitle(comparison: Comparison) -> str:
    runs = ", ".join(run.run_id for run in comparison.runs)
    return f"compared across {comparison.across}s · {runs}"


def _notices(comparison: Comparison) -> tuple[Notice, ...]:
    found = [Notice("info", method_note(comparison))]
    machine = [row.name for row in comparison.differences if row.group in ("machine", "clocks")]
    if machine:
        text = f"The runs were taken on unlike machines or clocks ({', '.join(machine)}). The ratios are between the machines."
        found.append(Notice("warn", text))
    found += [Notice("warn", note) for note in comparison.notes]
    for result in comparison.results:
        found += [Notice("warn", f"{result.pair.b.cell_id}: {note}") for note in result.notes]
    return tuple(dict.fromkeys(found))


def _sections(comparison: Comparison) -> list[Section]:
    drawn = draw_all(comparison)
    return [
        make_section("effects", "Effects", "Every change with its uncertainty.", drawn["effects"]),
        make_section("tradeoffs", "Trade-offs", "Throughput against latency, quality against speed.", drawn["tradeoffs"]),
        make_section("speed", "Speed by target", "The same cells on each target.", drawn["speed"]),
        make_section("skew", "Routing skew", "Whether the sides did the same work.", drawn["skew"]),
        make_section("differences", "What differs", "Machines, clocks, software.", [], tables.differences_table(comparison)),
        make_section("unpaired", "Not compared", "Cells without a counterpart.", [], tables.unpaired_table(comparison)),
        make_section(
            "definitions", "Definitions", "Each metric is defined once.", [], definitions.definitions_table(comparison.cells)
        ),
        make_section("provenance", "Provenance", "Enough to run it again.", [], provenance.machines_table(comparison.runs)),
    ]
