"""Tables of expert usage and of the expert cache.

In: measured cells with an `experts` entry. Out: Tables: one row a cell over all layers, one a layer, one a
cache size. Source of the figures: routing of the first repeat that recorded it; nothing is pooled over
precisions.
"""

import statistics
from collections.abc import Sequence

from harness.report.cells import MeasuredCell
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import bytes_text, significant
from harness.report.tables.summary import precision_entry

LAYER_METRICS = {
    "max_over_mean": "Max / mean",
    "cv": "CV",
    "gini": "Gini",
    "entropy_bits": "Entropy",
    "active_per_step": "Active a step",
    "top2_share": "Two hottest",
}
POLICIES = {"lru": "LRU", "lfu": "LFU", "belady": "Belady (optimum)"}
MAX_OPEN_ROWS = 12  # longer tables start closed
HEADERS = ("Weights × activations", "Workload")


def experts_of(cell: MeasuredCell) -> dict | None:
    """Expert usage of the first ok repeat that recorded it."""
    return next((record["experts"] for record in cell.records if record.get("experts")), None)


def usage_table(cells: Sequence[MeasuredCell]) -> Table:
    """Mean over the layers, with min-max over the layers."""
    groups: dict[str, list] = {}
    for cell in cells:
        experts = experts_of(cell)
        if experts and experts.get("layers"):
            columns = (_over_layers(experts["layers"], key) for key in LAYER_METRICS)
            row = (
                precision_entry(cell),
                Entry(cell.workload, detail=f"phase {experts.get('phase', 'all')}"),
                *columns,
            )
            groups.setdefault(f"{cell.target} · {cell.model}", []).append(row)
    return table(
        "Expert usage: mean over the layers and, below it, min–max over the layers. An even router has "
        "max/mean 1, "
        "CV 0, Gini 0 and the full entropy of log₂(experts).",
        (*HEADERS, *LAYER_METRICS.values()),
        [Group(label, tuple(rows)) for label, rows in groups.items()],
        folded=sum(map(len, groups.values())) > MAX_OPEN_ROWS,
    )


def layers_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a layer, for each cell."""
    groups = []
    for cell in cells:
        experts = experts_of(cell)
        if experts:
            rows = tuple(
                (Entry(f"layer {layer['layer']}"), *(_figure(layer.get(key), key) for key in LAYER_METRICS))
                for layer in experts.get("layers") or ()
            )
            groups.append(Group(f"{cell.target} · {cell.model} · {cell.name} ({cell.method}) · {cell.workload}", rows))
    return table("Expert usage by layer.", ("Layer", *LAYER_METRICS.values()), groups, folded=True)


def cache_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a number of slots, a column a policy."""
    notes, groups = Footnotes(), []
    for cell in cells:
        sizes: dict[tuple, dict[str, dict]] = {}
        for entry in (experts_of(cell) or {}).get("cache") or ():
            sizes.setdefault((entry["slots_per_layer"], entry["budget_bytes"]), {})[entry["policy"]] = entry
        rows = tuple(
            (Entry(str(slots)), Entry(*bytes_text(budget).split(" ")), *_hits(found, notes))
            for (slots, budget), found in sorted(sizes.items())
        )
        groups.append(Group(f"{cell.target} · {cell.model} · {cell.name} ({cell.method}) · {cell.workload}", rows))
    return table(
        "Expert cache: share of accesses that find their expert resident, replayed on the recorded routing. "
        "Belady knows the future: no policy can beat it.",
        ("Slots a layer", "Bytes for experts", *POLICIES.values(), "Accesses"),
        groups,
        notes,
        folded=True,
    )


def _hits(found: dict[str, dict], notes: Footnotes) -> list[Entry]:
    entries = [
        Entry(significant(100 * found[policy]["hit_rate"]), "%")
        if policy in found
        else notes.dash(f"the {policy} policy is not in the record")
        for policy in POLICIES
    ]
    accesses = next((entry.get("num_accesses") for entry in found.values()), None)
    return [*entries, notes.dash("not in the record") if accesses is None else Entry(significant(accesses))]


def _over_layers(layers: list[dict], key: str) -> Entry:
    values = [layer[key] for layer in layers if layer.get(key) is not None]
    if not values:
        return Entry("—", detail="not in the record", tone="muted")
    low, high = (_figure(value, key) for value in (min(values), max(values)))
    mean = _figure(statistics.fmean(values), key)
    return Entry(mean.text, mean.unit, f"{low.text}–{high.text}")


def _figure(value: float | None, key: str) -> Entry:
    if value is None:
        return Entry("—", detail="not in the record", tone="muted")
    if key == "top2_share":
        return Entry(significant(100 * value), "%")
    return Entry(significant(value), {"entropy_bits": "bits", "active_per_step": "experts"}.get(key, ""))
