"""Gates that need no quiet machine: figures and choices that the same code gives again to the last digit.

In: the baseline's cell and the candidate's. Out: `Exact` with its state. A figure that gets worse by more than allowed is a
regression; a kernel that is no longer chosen is one too, however fast the other is: take it up with
`harness gate RUN --update --reason ...`.
"""

from dataclasses import dataclass

from harness.compare.judge import oriented
from harness.compare.values import unit_of, values_of
from harness.crossovers import show_crossovers
from harness.metrics import METRICS
from harness.report.cells import MeasuredCell
from harness.report.numbers import quantity
from harness.scenario.gates import EXPERT_READ_BYTES, KERNEL_SELECTION, ExactGateSpec

EXPERT_PARTS = ("expert_codes_bytes", "expert_scales_bytes", "expert_tensor_scales_bytes")


@dataclass(frozen=True, slots=True)
class Exact:
    """One exact gate of one cell.

    state: passed, better, regression, invalid, not comparable, or "" where the gate does not apply to the cell.
    """

    metric: str
    state: str
    value_a: float | None
    value_b: float | None
    unit: str
    detail: str


def exact_gates(specs: list[ExactGateSpec], a: MeasuredCell, b: MeasuredCell) -> list[Exact]:
    """Every exact gate that applies to the cell: a gate on a figure that neither side has does not."""
    found = [_selection(a, b) if spec.metric == KERNEL_SELECTION else _figure(spec, a, b) for spec in specs]
    return [gate for gate in found if gate.state]


def _figure(spec: ExactGateSpec, a: MeasuredCell, b: MeasuredCell) -> Exact:
    unit = "bytes" if spec.metric == EXPERT_READ_BYTES else unit_of(spec.metric, None)
    (one, why_a), (two, why_b) = (_numbers(spec.metric, cell) for cell in (a, b))
    if not one and not two and why_a is None and why_b is None:
        return Exact(spec.metric, "", None, None, unit, "neither side has it")
    if not one or not two:
        state = "invalid" if not two else "not comparable"
        place = "the candidate" if not two else "the baseline"
        values = (one[0] if one else None, two[0] if two else None)
        return Exact(spec.metric, state, *values, unit, f"{place}: {(why_b if not two else why_a) or 'not measured'}")
    for place, state, numbers in (("the baseline", "not comparable", one), ("the candidate", "invalid", two)):
        if len(set(numbers)) > 1:
            text = f"{place}: repeats read {min(numbers):g} to {max(numbers):g}, so the figure is not exact here"
            return Exact(spec.metric, state, one[0], two[0], unit, text)
    return _held(spec, one[0], two[0], unit)


def _held(spec: ExactGateSpec, one: float, two: float, unit: str) -> Exact:
    direction = METRICS[spec.metric].direction if spec.metric in METRICS else "lower"
    texts = f"{quantity(one, unit)} before, {quantity(two, unit)} now"
    if one == two:
        return Exact(spec.metric, "passed", one, two, unit, f"unchanged, {quantity(two, unit)}")
    if one <= 0 or two <= 0:
        got_worse = (two > one) == (direction == "lower")
        return Exact(spec.metric, "regression" if got_worse else "better", one, two, unit, texts)
    worse_pct = 100 * (oriented(two / one, direction) - 1)
    state = "regression" if worse_pct > spec.max_worse_pct else "passed" if worse_pct >= 0 else "better"
    return Exact(spec.metric, state, one, two, unit, f"{texts}: {worse_pct:+.3g} % worse, {spec.max_worse_pct:g} % allowed")


def _numbers(metric: str, cell: MeasuredCell) -> tuple[list[float], str | None]:
    """(a number a valid repeat, why there is none). No numbers and no reason: the record does not speak of it."""
    if metric == EXPERT_READ_BYTES:
        found = [read_bytes_per_step(record) for record in cell.records if record["verdict"]["state"] != "INVALID"]
        return [value for value in found if value is not None], None if cell.records else cell.error
    values = values_of(cell, metric)
    speaks = not cell.records or any(metric in (record.get("metrics") or {}) for record in cell.records)
    known_null = any((r.get("metrics") or {}).get(metric, {}).get("reason") for r in cell.records)
    return values.numbers, values.problem if speaks and not known_null else None


def read_bytes_per_step(record: dict) -> float | None:
    """Bytes of expert weights that a decode step reads: distinct experts hit, summed over layers, times an expert's bytes."""
    experts, metrics = record.get("experts") or {}, record.get("metrics") or {}
    if experts.get("phase") != "decode":
        return None
    parts = [(metrics.get(name) or {}).get("value") for name in EXPERT_PARTS]
    if parts[0] is None:
        return None
    layers = experts["layers"]
    one_expert = sum(part or 0 for part in parts) / (len(layers) * experts["num_experts"])
    return sum(layer["active_per_step"] for layer in layers) * one_expert


def _selection(a: MeasuredCell, b: MeasuredCell) -> Exact:
    one, two = (_chosen(cell) for cell in (a, b))
    if not one or not two:
        place, state = ("the candidate", "invalid") if not two else ("the baseline", "not comparable")
        return Exact(KERNEL_SELECTION, state, None, None, "", f"{place} names no implementation")
    changed = [
        f"{op}: {one.get(op, 'none')} before, {two.get(op, 'none')} now" for op in {**one, **two} if one.get(op) != two.get(op)
    ]
    if changed:
        return Exact(KERNEL_SELECTION, "regression", None, None, "", "; ".join(changed))
    return Exact(KERNEL_SELECTION, "passed", None, None, "", "; ".join(f"{op}: {name}" for op, name in two.items()))


def _chosen(cell: MeasuredCell) -> dict[str, str]:
    """Operation -> what runs how many tokens."""
    rows = cell.records[0].get("implementation") or () if cell.records else ()
    return {row["op"]: show_crossovers(row) if row.get("crossovers") else str(row.get("chosen")) for row in rows}
