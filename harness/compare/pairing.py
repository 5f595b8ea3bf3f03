"""Which cell is set beside which: across runs (machines, commits), across precisions, across backends.

In: measured cells, an axis, the baseline. Out: pairs of cells, and what could not be set beside anything, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.compare.clients import counterpart, is_imported
from harness.compare.identity import differences, join_key
from harness.errors import HarnessError, UsageError
from harness.report.cells import MeasuredCell

AXES = ("run", "precision", "backend")
_FIELDS = ("model", "backend", "precision", "workload")
BASELINE_OF = {"precision": "bf16-a16", "backend": "native"}


class NotComparableError(HarnessError):
    """Nothing of one side can be set beside anything of the other."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class CellPair:
    """Two cells to compare; a is the baseline."""

    a: MeasuredCell
    b: MeasuredCell

    @property
    def pairing(self) -> str:
        """ "repeats" where the two runs were interleaved, so that repeat i of one stands beside repeat i of the other."""
        partner = (self.b.run.info.get("interleaved") or {}).get("with")
        return "repeats" if partner is not None and partner == self.a.run.run_id else "none"


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A cell without a counterpart, or with one that answers another question."""

    cell: MeasuredCell
    reason: str


def pair_cells(cells: Sequence[MeasuredCell], *, across: str, baseline: str | None) -> tuple[list[CellPair], list[Unpaired]]:
    """Pairs and leftovers. `baseline` names a run id, a precision id or a backend; the default is the first run,
    bf16-a16, native."""
    if across == "run":
        return _across_runs(cells, baseline)
    return _across_field(cells, across, baseline or BASELINE_OF[across])


def _across_runs(cells, baseline: str | None) -> tuple[list[CellPair], list[Unpaired]]:
    ids = list(dict.fromkeys(cell.run.run_id for cell in cells))
    first = baseline or ids[0]
    if first not in ids:
        raise UsageError(f"--baseline {first!r}: not one of the runs ({', '.join(ids)})")
    base = {join_key(cell): cell for cell in cells if cell.run.run_id == first}
    pairs, left, used = [], [], set()
    for cell in (cell for cell in cells if cell.run.run_id != first):
        other, unlike = _beside(cell, base, first)
        used.add(join_key(other or cell))
        if unlike:
            left.append(Unpaired(cell, "; ".join(unlike)))
        else:
            pairs.append(CellPair(other, cell))
    left += [Unpaired(cell, "only the baseline has it") for key, cell in base.items() if key not in used]
    return pairs, left


def _beside(cell: MeasuredCell, base: dict[tuple, MeasuredCell], first: str) -> tuple[MeasuredCell | None, list[str]]:
    """The baseline's cell of the same name, or of the same load where one of the two is imported; and what differs."""
    other = base.get(join_key(cell))
    if other is not None:
        return other, differences(other, cell)
    foreign = list(base.values()) if is_imported(cell) else [item for item in base.values() if is_imported(item)]
    if foreign:
        return counterpart(cell, foreign)
    return None, [f"{first} has no cell of this model, backend, precision and workload"]


def _across_field(cells, across: str, baseline: str) -> tuple[list[CellPair], list[Unpaired]]:
    index = _FIELDS.index(across)

    def rest(cell: MeasuredCell) -> tuple:
        key = join_key(cell)
        return (cell.run.run_id, cell.target, *key[:index], *key[index + 1 :])

    base = {rest(cell): cell for cell in cells if join_key(cell)[index] == baseline}
    if not base:
        known = ", ".join(dict.fromkeys(join_key(cell)[index] for cell in cells))
        raise NotComparableError(
            f"--across {across}: no cell of {across} {baseline!r} (there are: {known}); name one with --baseline"
        )
    pairs, left = [], []
    for cell in cells:
        if join_key(cell)[index] == baseline:
            continue
        other = base.get(rest(cell))
        if other is None:
            left.append(Unpaired(cell, f"no {baseline} cell of the same model and workload on the same target"))
        else:
            pairs.append(CellPair(other, cell))
    return pairs, left
