"""Measured cells: all repeats of one cell of one run, with each metric reduced to median and min-max.

In: LoadedRun objects. Out: MeasuredCell rows in the order of the plan, and Number, one metric over repeats.
Failed records give no numbers; a metric that is null or absent gives a Number without a median and with its
reason. It formats nothing.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.crossovers import names_of
from harness.report.data import LoadedRun

FORMAT_NAMES = {
    "bf16": "BF16",
    "fp32": "FP32",
    "fp8": "FP8",
    "nvfp4": "NVFP4",
    "mxfp4": "MXFP4",
    "int4": "INT4",
    "ternary": "ternary",
}
FP4_FORMATS = ("nvfp4", "mxfp4")
STATES = ("VALID", "WARN", "INVALID")
REFERENCE_SPEED = "reference implementation: not FP4's speed"
_TARGET_NOISE = re.compile(r"\((R|TM|tm|r)\)|\bNVIDIA\b|\bGeForce\b|\bProcessor\b|\bCPU\b|@.*$")


@dataclass(frozen=True, slots=True)
class Number:
    """One metric of one cell over its repeats. `reason` says why `median` is None."""

    median: float | None
    low: float | None = None
    high: float | None = None
    num_repeats: int = 0
    num_samples: int = 0  # smallest n a repeat
    unit: str = ""
    reason: str | None = None

    @property
    def has_spread(self) -> bool:
        return self.num_repeats > 1

    def overlaps(self, other: "Number") -> bool:
        """Whether the min-max ranges of two measured numbers meet."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """All records of one (run, cell). `records` are the ok repeats, `failures` the failed ones."""

    run: LoadedRun
    cell_id: str
    target: str
    records: tuple[dict, ...]
    failures: tuple[dict, ...]

    @property
    def first(self) -> dict:
        return (self.records or self.failures)[0]

    @property
    def model(self) -> str:
        return self.first["model"]

    @property
    def backend(self) -> str:
        return self.first.get("backend", "native")

    @property
    def precision(self) -> dict:
        return self.first["precision"]

    @property
    def weights(self) -> str:
        return self.precision["weights"]

    @property
    def method(self) -> str:
        return self.precision.get("method") or "none"

    @property
    def name(self) -> str:
        """Weight format x activation format."""
        return format_pair(self.weights, self.precision["activations"])

    @property
    def workload(self) -> str:
        return self.first["workload"]["name"]

    @property
    def is_heldout(self) -> bool:
        return self.first["workload"]["kind"] == "heldout"

    @property
    def target_kind(self) -> str:
        return self.first["target"]["kind"]

    @property
    def weights_source(self) -> str:
        return (self.first.get("weights") or {}).get("source", "unknown")

    @property
    def is_reference(self) -> bool:
        """Whether an op that reads expert weights ran the reference implementation."""
        return any(c.get("is_reference") for r in self.records for c in r.get("implementation") or () if c["op"] != "route")

    @property
    def implementation(self) -> str:
        """Names of the chosen implementations of the expert ops."""
        choices = [choice for choice in self.first.get("implementation") or () if choice["op"] != "route"]
        return " + ".join(dict.fromkeys(name for choice in choices for name in names_of(choice))) or "not recorded"

    @property
    def state(self) -> str:
        """FAILED if no repeat succeeded, else the worst verdict of its repeats."""
        if not self.records:
            return "FAILED"
        return max((r["verdict"]["state"] for r in self.records), key=STATES.index)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Distinct reasons of the verdicts, each with the number of repeats that it stands on."""
        counts = Counter(f"{x['message']} [{x['code']}]" for r in self.records for x in r["verdict"].get("reasons") or ())
        total = len(self.records)
        return tuple(text if total == 1 else f"{text} ({num} of {total} repeats)" for text, num in counts.items())

    @property
    def error(self) -> str:
        error = self.failures[0].get("error") or {} if self.failures else {}
        return f"{error.get('kind', 'error')}: {error.get('message', 'no message')}" if self.failures else ""

    def number(self, metric: str) -> Number:
        """Median and min-max of `metric` over the repeats that have it."""
        if not self.records:
            return Number(None, reason=f"the {self.workload} cell failed: {self.error}" if self.error else "no record")
        entries = [(r.get("metrics") or {}).get(metric) for r in self.records]
        found = [entry for entry in entries if entry and entry.get("value") is not None]
        if found:
            values = [entry["value"] for entry in found]
            samples = min(entry.get("n") or 1 for entry in found)
            return Number(statistics.median(values), min(values), max(values), len(values), samples, found[0]["unit"])
        reasons = [entry["reason"] for entry in entries if entry and entry.get("reason")]
        return Number(
            None,
            reason=reasons[0] if reasons else f"{metric} is not in the record of the {self.workload} cell",
        )


def format_pair(weights: str, activations: str) -> str:
    return f"{FORMAT_NAMES.get(weights, weights)} × {FORMAT_NAMES.get(activations, activations)}"


def short_target(name: str) -> str:
    """'NVIDIA A100-SXM4-80GB' -> 'A100-SXM4-80GB'; the full name stays in the provenance."""
    return " ".join(_TARGET_NOISE.sub(" ", name).split()) or name


def measured_cells(runs: Sequence[LoadedRun]) -> tuple[MeasuredCell, ...]:
    """Every cell with a record, in the order of the runs and of their plans."""
    names = Counter(name for run in runs for name in {r["target"]["name"] for r in run.records})
    return tuple(cell for run in runs for cell in _cells_of(run, names))


def _cells_of(run: LoadedRun, num_runs_by_target: Counter) -> Iterable[MeasuredCell]:
    by_cell: dict[str, list[dict]] = {cell["cell_id"]: [] for cell in run.plan.get("cells") or ()}
    for record in run.records:
        by_cell.setdefault(record["cell_id"], []).append(record)
    for cell_id, records in by_cell.items():
        if not records:
            continue
        records.sort(key=lambda record: record.get("repeat", 0))
        name = records[0]["target"]["name"]
        label = short_target(name) + (f" (run {run.run_id})" if num_runs_by_target[name] > 1 else "")
        ok = tuple(record for record in records if record["status"] == "ok")
        yield MeasuredCell(run, cell_id, label, ok, tuple(record for record in records if record["status"] != "ok"))
