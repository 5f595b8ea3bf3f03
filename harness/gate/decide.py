"""Hold a candidate run against a baseline run: one outcome a cell and gate, one exit code for all.

passed, better    nothing to do               regression      exit 1, whatever else is open
inconclusive      exit 3, or 0 with a warning where `on_inconclusive: warn`; never called "no regression"
invalid           exit 3: the candidate has no usable number
not comparable    exit 4: the baseline lacks the cell or the number, or it answers another question
"""

from dataclasses import dataclass, replace

from harness.compare.identity import differences, join_key
from harness.compare.judge import Judgement, judge_all
from harness.compare.pairing import CellPair
from harness.compare.rules import GATE_ALPHA, Primary, Rules
from harness.compare.values import values_of
from harness.compare.whole import notes_on
from harness.gate.exact import Exact, exact_gates
from harness.gate.quiet import quiet_enough
from harness.report.cells import MeasuredCell, measured_cells
from harness.report.data import LoadedRun
from harness.scenario.gates import GateSpec

STATES = ("regression", "not comparable", "invalid", "inconclusive", "better", "passed")
EXIT_CODES = {"regression": 1, "not comparable": 4, "invalid": 3, "inconclusive": 3, "better": 0, "passed": 0}
_STATE_OF = {"worse": "regression", "better": "better", "same": "passed", "inconclusive": "inconclusive"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One gate of one cell."""

    cell_id: str
    metric: str
    state: str
    detail: str
    judgement: Judgement | None = None
    exact: Exact | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """Every outcome, and what the command ends in."""

    baseline: LoadedRun
    candidate: LoadedRun
    spec: GateSpec
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """The worst outcome."""
        return min((outcome.state for outcome in self.outcomes), key=STATES.index, default="invalid")

    @property
    def exit_code(self) -> int:
        if self.state == "inconclusive" and self.spec.on_inconclusive == "warn":
            return 0
        return EXIT_CODES[self.state]

    def of_state(self, state: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state == state]


def gate_rules(spec: GateSpec) -> Rules:
    """The level of a gate and its primary metrics."""
    return Rules(tuple(Primary(item.metric, item.min_effect_pct) for item in spec.primary), GATE_ALPHA)


def decide(baseline: LoadedRun, candidate: LoadedRun, spec: GateSpec) -> GateResult:
    """Judge every cell that either run planned or measured."""
    old = {join_key(cell): cell for cell in measured_cells([baseline])}
    new = {join_key(cell): cell for cell in measured_cells([candidate])}
    outcomes = [outcome for key, cell in new.items() for outcome in _cell(old.get(key), cell, spec)]
    outcomes += [_lost(cell) for key, cell in old.items() if key not in new]
    outcomes += _never_measured(baseline, candidate)
    notes = tuple(note for run in (baseline, candidate) for note in notes_on(run))
    return GateResult(baseline, candidate, spec, tuple(outcomes), notes)


def _cell(old: MeasuredCell | None, new: MeasuredCell, spec: GateSpec) -> list[Outcome]:
    if old is None:
        return [
            Outcome(new.cell_id, "cell", "not comparable", "the baseline has no such cell; take it in with --update --reason")
        ]
    unlike = differences(old, new)
    if unlike:
        return [Outcome(new.cell_id, "cell", "not comparable", "; ".join(unlike))]
    if not new.records:
        return [Outcome(new.cell_id, "cell", "invalid", f"every repeat failed ({new.error})")]
    timed = [] if new.is_heldout else judge_cell(old, new, spec)
    outcomes = [_timed(new, judgement) for judgement in timed]
    return outcomes + [
        Outcome(new.cell_id, gate.metric, gate.state, gate.detail, exact=gate) for gate in exact_gates(spec.exact, old, new)
    ]


def judge_cell(old: MeasuredCell, new: MeasuredCell, spec: GateSpec) -> list[Judgement]:
    """The primary metrics of a pair of cells; those of runs that were not interleaved only where the machine was quiet."""
    rules = gate_rules(spec)
    if not rules.primary:
        return []
    pairing = CellPair(old, new).pairing
    sides = [(item, values_of(old, item.metric), values_of(new, item.metric)) for item in rules.primary]
    judged = judge_all(sides, rules, pairing=pairing)
    if pairing == "repeats":
        return judged
    return [quiet_enough(j, a, b) for j, (_, a, b) in zip(judged, sides, strict=True)]


def _timed(cell: MeasuredCell, judgement: Judgement) -> Outcome:
    if judgement.verdict == "not judged":
        state = "not comparable" if judgement.side_at_fault == "a" else "invalid"
        place = "the baseline" if judgement.side_at_fault == "a" else "the candidate"
        return Outcome(cell.cell_id, judgement.metric, state, f"{place}: {judgement.reason}", judgement)
    return Outcome(cell.cell_id, judgement.metric, _STATE_OF[judgement.verdict], judgement.reason, judgement)


def _lost(cell: MeasuredCell) -> Outcome:
    return Outcome(cell.cell_id, "cell", "invalid", "the baseline has this cell and the candidate did not measure it")


def _never_measured(baseline: LoadedRun, candidate: LoadedRun) -> list[Outcome]:
    """Planned cells without one record: a gate must not pass because something was not run."""
    seen = {record["cell_id"] for run in (baseline, candidate) for record in run.records}
    old, new = (_planned(run) for run in (baseline, candidate))
    outcomes = []
    for cell_id in [name for name in dict.fromkeys([*new, *old]) if name not in seen]:
        if cell_id not in new:
            why = _drop_reason(candidate, cell_id)
            outcomes.append(Outcome(cell_id, "cell", "invalid", f"the baseline plans it and the candidate does not{why}"))
        elif old and cell_id not in old:
            why = _drop_reason(baseline, cell_id)
            outcomes.append(Outcome(cell_id, "cell", "not comparable", f"the baseline does not plan it{why}"))
        else:
            outcomes.append(Outcome(cell_id, "cell", "invalid", "planned, and without any record"))
    return outcomes


def _planned(run: LoadedRun) -> list[str]:
    return [cell["cell_id"] for cell in run.plan.get("cells") or ()]


def _drop_reason(run: LoadedRun, cell_id: str) -> str:
    reasons = [row["reason"] for row in run.plan.get("dropped") or () if row.get("cell_id") == cell_id]
    return f": {reasons[0]}" if reasons else ""


def with_policy(result: GateResult, policy: str | None) -> GateResult:
    """The result under another `on_inconclusive`; None keeps the scenario's."""
    if policy is None:
        return result
    return replace(result, spec=result.spec.model_copy(update={"on_inconclusive": policy}))
