"""Sections that hold more than a run's own records: GPUs side by side with projections, and the scenario's claims.

In: AcrossRow data, loaded runs. Out: Section, none where nothing was asked for. What a projection is worth: docs/projection.md.
"""

from collections.abc import Sequence

from harness.report.across import AcrossRow
from harness.report.data import LoadedRun
from harness.report.sections import Section
from harness.report.tables import across as across_tables

ACROSS_INTRO = (
    "Measured where a record exists. Elsewhere projected from measured layers by docs/projection.md: every projected figure is "
    "orange, carries its mark, and is in projections.json. None of them is a measurement."
)


def across_section(rows: Sequence[AcrossRow]) -> tuple[Section, ...]:
    """Measured and projected side by side, one section; none where no projection was asked for."""
    if not rows:
        return ()
    from harness.report.plots import across

    basis = dict.fromkeys(line for row in rows for place in row.places if place.projection for line in place.projection.basis)
    made = across_tables.across_table(rows), across_tables.published_table(rows)
    tables = tuple(found for found in made if found is not None)
    texts = (("What the projections stand on", "\n".join(basis)),) if basis else ()
    return (Section("across", "Across GPUs", ACROSS_INTRO, tuple(across.draw(rows)), tables, texts=texts),)


def claims_section(runs: Sequence[LoadedRun]) -> tuple[Section, ...]:
    """The claims that the runs' scenarios carry, each held against what is known."""
    claims = [claim for run in runs for claim in (run.info.get("scenario") or {}).get("claims") or ()]
    if not claims:
        return ()
    from harness.claims import judge_scenario
    from harness.claims.show import claims_table

    judged = judge_scenario(claims, [run.path for run in runs])
    intro = "What the scenario claims, held against records, arithmetic and projections (docs/claims.md)."
    return (Section("claims", "Claims", intro, tables=(claims_table(judged),)),)
