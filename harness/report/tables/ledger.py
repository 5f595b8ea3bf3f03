"""The memory ledger: what was predicted before loading beside what was then held, by cause, down to what nobody accounts for.

In: measured cells. Out: a Table, a row a cause, a group a cell. Predicted: from the model's shape alone, before loading.
On a GPU the whole is what NVML counts, on a CPU the worker's peak resident memory; the last row is the whole less the parts.
"""

from collections.abc import Sequence

from harness.report.cells import MeasuredCell, Number
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import bytes_text, signed

CAUSES = {
    "expert_codes": "Expert codes",
    "expert_scales": "Expert block scales",
    "expert_tensor_scales": "Expert tensor scales",
    "attention": "Attention",
    "embedding": "Embedding and head",
    "router": "Router",
    "norm": "Norms",
    "kv_cache": "KV cache",
    "activation_peak": "Activations and workspaces, peak",
    "allocator_slack": "Allocator slack",
    "graph_pool": "CUDA graphs' pools",
    "outside_allocator": "Context and libraries",
    "other_processes": "Other processes",
}
PARTS = ("expert_codes", "expert_scales", "expert_tensor_scales", "attention", "embedding", "router", "norm", "kv_cache")
CONTEXT = "cuda"
"""A cause of predictions that are of everything that the process takes of a GPU."""
NOT_PREDICTED = "not predicted: it does not follow from the model's shape"


def ledger_table(cells: Sequence[MeasuredCell]) -> Table:
    """Cells whose records hold a prediction."""
    notes, groups = Footnotes(), []
    for cell in cells:
        predicted = next((r["predicted_memory_bytes"] for r in cell.records if r.get("predicted_memory_bytes")), None)
        if predicted and not cell.is_heldout:
            label = f"{cell.name} ({cell.method}) · {cell.workload} · {cell.model} · {cell.target}"
            groups.append(Group(label, tuple(_rows(cell, predicted, notes))))
    caption = (
        "Memory ledger: predicted before loading beside measured. KV cache predicted: of the cell's own slots and context, in "
        "older records of the scenario's largest workload. Whole: the prediction lacks what the driver keeps for itself."
    )
    return table(caption, ("Cause", "Predicted", "Measured", "Difference"), groups, notes, folded=True)


def _rows(cell: MeasuredCell, predicted: dict[str, int], notes: Footnotes):
    for cause, label in CAUSES.items():
        number, guess = cell.number(f"{cause}_bytes"), predicted.get(cause)
        if guess is None and number.median is None and cell.target_kind == "cpu":
            continue  # the GPU's own causes
        difference = _difference(guess, number)
        first = notes.dash(NOT_PREDICTED) if guess is None else Entry(bytes_text(guess))
        yield Entry(label, tone="head"), first, notes.entry(number, ""), difference
    whole = cell.number("process_peak_rss_bytes" if cell.target_kind == "cpu" else "peak_device_memory_bytes")
    total = sum(predicted.values()) if CONTEXT in predicted else None
    guess = notes.dash(NOT_PREDICTED) if total is None else Entry(bytes_text(total))
    yield Entry("Whole, as the system counts it", tone="head"), guess, notes.entry(whole, ""), _difference(total, whole)
    if whole.median is not None:
        rest = whole.median - sum(_held(cell, cause) for cause in _added(cell))
        entry = Entry(f"{'−' if rest < 0 else ''}{bytes_text(abs(rest))}")
        yield Entry("Not accounted for", detail="libraries, interpreter, rounding", tone="head"), Entry(""), entry, Entry("")


def _added(cell: MeasuredCell) -> tuple[str, ...]:
    """Causes that do not overlap: slack holds past activations, graphs' pools the captured ones."""
    more = ("activation_peak",) if cell.target_kind == "cpu" else ("allocator_slack", "outside_allocator", "other_processes")
    return (*PARTS, *more)


def _held(cell: MeasuredCell, cause: str) -> float:
    return cell.number(f"{cause}_bytes").median or 0.0


def _difference(guess: int | None, number: Number) -> Entry:
    if guess is None or number.median is None:
        return Entry("")
    if guess == number.median:
        return Entry("none", tone="muted")
    change = 100 * (number.median / guess - 1) if guess else float("inf")
    return Entry(signed(change, 2), "%")
