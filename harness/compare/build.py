"""Compare runs: read them, set cells beside each other, judge.

In: folders of runs. Out: `Comparison`, everything that the terminal, Markdown, HTML and JSON print. Writes nothing.
Raises NotComparableError (exit 4) when nothing can be compared, with the reason of each cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare.clients import note_on, refusals
from harness.compare.differences import Difference, differences_between
from harness.compare.exact import ExactChange, exact_changes
from harness.compare.judge import Judgement, judge_all
from harness.compare.pairing import CellPair, NotComparableError, Unpaired, pair_cells
from harness.compare.rules import Rules, make_rules
from harness.compare.values import values_of
from harness.compare.whole import notes_on
from harness.errors import UsageError
from harness.report.cells import REFERENCE_SPEED, MeasuredCell, measured_cells
from harness.report.data import LoadedRun, load

MAX_SHOWN = 8


@dataclass(frozen=True, slots=True)
class PairResult:
    """Everything said about one pair of cells."""

    pair: CellPair
    judgements: tuple[Judgement, ...]
    exact: tuple[ExactChange, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `harness compare` found."""

    runs: tuple[LoadedRun, ...]
    across: str
    rules: Rules
    cells: tuple[MeasuredCell, ...]
    results: tuple[PairResult, ...]
    unpaired: tuple[Unpaired, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare_runs(
    paths: Sequence[Path | str], *, across: str | None = None, baseline: str | None = None, rules: Rules | None = None
) -> Comparison:
    """Read and compare. Several runs are compared across runs, one across its precisions, unless `across` says otherwise."""
    if not paths:
        raise UsageError("compare: needs at least one run's folder")
    runs = [load(path) for path in dict.fromkeys(Path(path) for path in paths)]
    return compare_loaded(_with_unique_ids(runs), across=across, baseline=baseline, rules=rules)


def compare_loaded(
    runs: Sequence[LoadedRun], *, across: str | None = None, baseline: str | None = None, rules: Rules | None = None
) -> Comparison:
    """The same from runs already read."""
    axis = across or ("run" if len(runs) > 1 else "precision")
    if axis == "run" and len(runs) < 2:
        raise UsageError("compare --across run: needs at least two different run folders")
    cells = measured_cells(runs)
    if not cells:
        raise NotComparableError(f"no record in {', '.join(run.run_id for run in runs)}: there is nothing to compare")
    rules = rules or make_rules()
    pairs, unpaired = pair_cells(cells, across=axis, baseline=baseline)
    if not pairs:
        raise NotComparableError(f"nothing can be compared:\n{_listed(unpaired)}")
    results = tuple(compare_pair(pair, rules, across=axis) for pair in pairs)
    notes = tuple(note for run in runs for note in notes_on(run))
    return Comparison(tuple(runs), axis, rules, cells, results, tuple(unpaired), differences_between(runs), notes)


def compare_pair(pair: CellPair, rules: Rules, *, across: str) -> PairResult:
    """Judge one pair of cells."""
    judgements, notes = [], []
    if not (pair.a.is_heldout or pair.b.is_heldout):
        refused = refusals(pair.a, pair.b)
        sides = [
            (item, values_of(pair.a, item.metric), values_of(pair.b, item.metric).refused_for(refused.get(item.metric)))
            for item in rules.primary
        ]
        judgements = judge_all(sides, rules, pairing=pair.pairing)
        of_sides = (f"{name}: {note}" for _, a, b in sides for name, v in (("baseline", a), ("other", b)) for note in v.notes)
        notes = note_on(pair.a, pair.b) + list(dict.fromkeys(of_sides))
    if across != "run" and (pair.a.is_reference or pair.b.is_reference):
        judgements = [replace(j, verdict="not judged", reason=REFERENCE_SPEED) for j in judgements]
    return PairResult(pair, tuple(judgements), tuple(exact_changes(pair.a, pair.b)), tuple(notes))


def _with_unique_ids(runs: list[LoadedRun]) -> list[LoadedRun]:
    """Two folders with one run id (a copy, or merged machines) are told apart by their folders."""
    ids = [run.run_id for run in runs]
    return [run if ids.count(run.run_id) == 1 else replace(run, info=run.info | {"run_id": str(run.path)}) for run in runs]


def _listed(unpaired: Sequence[Unpaired]) -> str:
    lines = [f"  {item.cell.cell_id} ({item.cell.run.run_id}): {item.reason}" for item in unpaired]
    if len(lines) > MAX_SHOWN:
        lines = [*lines[:MAX_SHOWN], f"  ... and {len(lines) - MAX_SHOWN} more"]
    return "\n".join(lines)
