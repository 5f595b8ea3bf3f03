"""The table of results: throughput, time to first token, memory, perplexity change, a row a cell of requests.

In: variants. Out: Tables grouped by target and model, and, for several targets, one with a column a target.
A row whose variant has no request workload stands for its heldout cell, so that memory and quality still
show.
"""

from collections.abc import Sequence

from harness.quality import NATIVE
from harness.report.cells import REFERENCE_SPEED, MeasuredCell, short_target
from harness.report.grid import Entry, Footnotes, Group, Table, spread, table
from harness.report.numbers import DASH, change_decimals, grouped, quantity, signed, significant
from harness.report.variants import Variant

HEADERS = (
    "Weights × activations",
    "Workload",
    "Throughput (output)",
    "Time to first token",
    "Weights in memory",
    "Perplexity change",
    "Implementation",
    "Verdict",
)
MARKS = {"VALID": "✓", "WARN": "!", "INVALID": "✕", "FAILED": "✕"}


def summary_table(everyone: Sequence[Variant]) -> Table:
    """One row a (precision, workload), a group a (target, model)."""
    notes = Footnotes()
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for variant in everyone:
        rows = groups.setdefault(group_label(variant, everyone), [])
        for cell in variant.requests or (variant.head,):
            rows.append(_row(variant, cell, notes))
    return table(
        "Median over the repeats, with min–max; n = repeats × samples a repeat. Memory: all weights, and the "
        "experts "
        "among them. Perplexity change against BF16 with its 95 % paired interval.",
        HEADERS,
        [Group(label, tuple(rows)) for label, rows in groups.items()],
        notes,
        layout="cards",
    )


def group_label(variant: Variant, everyone: Sequence[Variant]) -> str:
    """'A100 · mixtral-8x7b', with the backend where a report has several."""
    backends = {other.head.backend for other in everyone}
    parts = [variant.head.target, variant.head.model] + ([variant.head.backend] if len(backends) > 1 else [])
    return " · ".join(parts)


def precision_entry(cell: MeasuredCell) -> Entry:
    return Entry(cell.name, detail="" if cell.method == "none" else f"method {cell.method}", tone="head")


def _row(variant: Variant, cell: MeasuredCell, notes: Footnotes) -> tuple[Entry, ...]:
    no_speed = "no request workload for this precision in this run"
    speeds = [
        notes.dash(no_speed) if cell.is_heldout else notes.entry(cell.number(metric))
        for metric in ("output_throughput", "median_ttft_ms")
    ]
    return (
        precision_entry(cell),
        Entry(cell.workload),
        *speeds,
        _memory_entry(variant, cell, notes),
        change_entry(variant, notes),
        implementation_entry(cell),
        badge(variant, cell),
    )


def _memory_entry(variant: Variant, cell: MeasuredCell, notes: Footnotes) -> Entry:
    number, experts = cell.number("weight_bytes"), variant.expert_bytes()
    if number.median is None:
        number = variant.anywhere("weight_bytes")
    detail = f"experts {quantity(experts.median, 'bytes')}" if experts.median is not None else ""
    return notes.entry(number, detail)


def change_entry(variant: Variant, notes: Footnotes) -> Entry:
    """Perplexity change with its interval; BF16 is the baseline and shows its perplexity."""
    absolute = variant.quality("perplexity")
    known = absolute.median is not None
    if variant.is_baseline and known and not is_held_against_native(variant):
        return Entry("baseline", detail=f"perplexity {significant(absolute.median, 4)}", tone="muted")
    change = variant.quality("perplexity_change_pct")
    if change.median is None:
        return notes.dash(change.reason)
    low, high = (variant.quality(f"perplexity_change_{end}_pct").median for end in ("low", "high"))
    decimals = change_decimals(change.median, low, high)
    interval = "" if low is None or high is None else f"95 %: {signed(low, decimals)} to {signed(high, decimals)}, "
    tokens = variant.quality("num_scored_tokens").median or change.num_samples
    return Entry(signed(change.median, decimals), "%", f"{interval}n = {grouped(tokens)} tokens")


def is_held_against_native(variant: Variant) -> bool:
    """Whether this is another backend's BF16, which native's BF16 is the baseline of."""
    return variant.head.backend != NATIVE and variant.quality("perplexity_change_pct").median is not None


def implementation_entry(cell: MeasuredCell) -> Entry:
    if not cell.records:
        return Entry(DASH, detail="the cell failed", tone="muted")
    if cell.is_reference:
        return Entry(REFERENCE_SPEED, tone="reference")
    return Entry(cell.implementation, detail="" if cell.backend == "native" else cell.backend)


def badge(variant: Variant, cell: MeasuredCell) -> Entry:
    """State of the cell; the heldout cell's own state is added where it differs and is not VALID."""
    heldout = variant.heldout
    detail = ""
    if heldout is not None and heldout is not cell and heldout.state not in ("VALID", cell.state):
        detail = f"heldout: {heldout.state}"
    if cell.failures and cell.records:
        detail = "; ".join(filter(None, (detail, f"{len(cell.failures)} failed")))
    return Entry(f"{MARKS[cell.state]} {cell.state}", detail=detail, tone=cell.state.lower())


def machines_table(everyone: Sequence[Variant]) -> Table | None:
    """A column a target, for reports that merge several machines; None for a single target."""
    targets = list(dict.fromkeys(variant.head.target for variant in everyone))
    if len(targets) < 2:
        return None
    notes = Footnotes()
    groups: dict[str, dict[tuple, dict[str, Entry]]] = {}
    for variant in everyone:
        for cell in variant.requests:
            rows = groups.setdefault(f"{cell.model} · {cell.workload}", {})
            key = (variant.head.backend, cell.name, cell.method)
            rows.setdefault(key, {"": precision_entry(cell)})[cell.target] = _machine_entry(cell, notes)
    filled = [
        Group(
            label,
            tuple(
                tuple(row.get(name) or notes.dash(f"not planned or not run on {name}") for name in ("", *targets))
                for row in rows.values()
            ),
        )
        for label, rows in groups.items()
    ]
    return table(
        "The same scenario on each machine: output tokens/s, with the median time to first token below.",
        ("Weights × activations", *(short_target(name) for name in targets)),
        filled,
        notes,
    )


def _machine_entry(cell: MeasuredCell, notes: Footnotes) -> Entry:
    speed, first = cell.number("output_throughput"), cell.number("median_ttft_ms")
    if speed.median is None:
        return notes.dash(speed.reason)
    parts = [spread(speed)]
    parts += [f"TTFT {quantity(first.median, first.unit)}"] if first.median is not None else []
    parts += [REFERENCE_SPEED] if cell.is_reference else []
    parts += [cell.state] if cell.state != "VALID" else []
    return notes.entry(speed, "; ".join(parts))
