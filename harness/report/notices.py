"""Notices at the head of the report: what a reader must know before reading any figure.

In: the runs and their measured cells. Out: Notice texts, most important first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.cells import MeasuredCell
from harness.report.data import LoadedRun
from harness.report.numbers import count


@dataclass(frozen=True, slots=True)
class Notice:
    """`tone` is 'warn' for what weakens the figures, 'info' for what explains them."""

    tone: str
    text: str


def notices(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell]) -> tuple[Notice, ...]:
    found = [
        _reference(cells),
        *_states(cells),
        _random(cells),
        *_unlike(runs, cells),
        *_unfinished(runs),
        *_dirty(runs),
        *_judged_again(runs),
    ]
    return tuple(notice for notice in found if notice is not None)


def _reference(cells: Sequence[MeasuredCell]) -> Notice | None:
    speeds = [cell for cell in cells if cell.is_reference]
    if not speeds:
        return None
    where = ", ".join(dict.fromkeys(cell.target for cell in speeds))
    cpu = all(cell.target_kind == "cpu" for cell in speeds)
    machine = "a CPU, which has no FP4 units" if cpu else "a machine where no FP4 kernel was chosen"
    return Notice(
        "info",
        f"{where}: {machine}. The experts ran in the reference implementation, which expands FP4 to float32 "
        "before it multiplies. This shows memory and quality; its speed is not FP4's speed.",
    )


def _states(cells: Sequence[MeasuredCell]) -> list[Notice]:
    failed = [cell for cell in cells if cell.failures]
    invalid = [cell for cell in cells if cell.state == "INVALID"]
    found = []
    if failed:
        found.append(Notice("warn", f"{count(len(failed), 'cell')} of {len(cells)} had a failed repeat: see Verdicts."))
    if invalid:
        found.append(
            Notice(
                "warn",
                f"{count(len(invalid), 'cell')} of {len(cells)} INVALID: the figures are shown and marked, "
                "and are not to be relied on.",
            )
        )
    return found


def _random(cells: Sequence[MeasuredCell]) -> Notice | None:
    models = dict.fromkeys(cell.model for cell in cells if cell.weights_source == "random")
    return (
        Notice(
            "info",
            f"{', '.join(models)}: seeded random weights. Speed and memory are those of the architecture; "
            "there is no perplexity, and expert usage is not that of a trained router.",
        )
        if models
        else None
    )


def _unlike(runs: Sequence[LoadedRun], cells: Sequence[MeasuredCell]) -> list[Notice]:
    found = []
    scenarios = {run.info.get("scenario_sha256") or run.scenario_name for run in runs}
    if len(scenarios) > 1:
        names = ", ".join(f"{run.scenario_name} ({str(run.info.get('scenario_sha256', ''))[:8]})" for run in runs)
        found.append(Notice("warn", f"These runs are not of one scenario: {names}. Read each by itself."))
    weights: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        sha = (cell.first.get("weights") or {}).get("sha256")
        weights.setdefault((cell.model, str(cell.precision.get("id"))), set()).update({sha} - {None})
    for (model, precision), shas in weights.items():
        if len(shas) > 1:
            found.append(
                Notice(
                    "warn",
                    f"{model} {precision} has {len(shas)} different weight hashes in this report: "
                    "its figures are not of the same weights.",
                )
            )
    return found


def _unfinished(runs: Sequence[LoadedRun]) -> list[Notice]:
    return [
        Notice("warn", f"Run {run.run_id} has not finished: cells may be missing.")
        for run in runs
        if not run.info.get("finished_utc")
    ]


def _dirty(runs: Sequence[LoadedRun]) -> list[Notice]:
    dirty = [run.run_id for run in runs if run.provenance.get("git_dirty")]
    return (
        [
            Notice(
                "warn",
                f"The source tree had uncommitted changes in {', '.join(dirty)}: the commit does not say all that ran.",
            )
        ]
        if dirty
        else []
    )


def _judged_again(runs: Sequence[LoadedRun]) -> list[Notice]:
    found = []
    for run in runs:
        notes = [r["verdict"]["judged_again"] for r in run.records if "judged_again" in r.get("verdict", {})]
        if notes:
            by = " and ".join(sorted({f"harness {note['harness']} on {note['utc'][:10]}" for note in notes}))
            what = f"{count(len(notes), 'record')} of {run.run_id} judged again by {by}"
            found.append(Notice("info", f"{what}: clocks and throttling, from the stored samples."))
    return found
