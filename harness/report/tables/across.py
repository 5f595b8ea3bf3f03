"""Measured and projected side by side: a column a GPU, and what others published for the GPUs that nobody here measured.

In: AcrossRow data. Out: Tables. A projected entry has its mark in its text and its own tone.
"""

from collections.abc import Sequence

from harness.project.curves import published_points
from harness.project.estimate import Estimate
from harness.report.across import AcrossRow, Place, ask_of
from harness.report.cells import Number, format_pair
from harness.report.grid import Entry, Footnotes, Group, Table, spread, table
from harness.report.numbers import quantity, split_quantity

METRICS = ("output_throughput", "median_ttft_ms")


def across_table(rows: Sequence[AcrossRow]) -> Table | None:
    """A column a GPU, a group a (model, workload); the mark stands in every projected entry."""
    if not rows:
        return None
    notes = Footnotes()
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    for row in rows:
        precision = row.wanted.precision
        method = precision.get("method") or "none"
        head = Entry(
            format_pair(precision["weights"], precision["activations"]),
            detail="" if method == "none" else f"method {method}",
            tone="head",
        )
        label = f"{row.wanted.model} · {_workload_text(row.wanted.workload)}"
        groups.setdefault(label, []).append((head, *(_entry(place, notes) for place in row.places)))
    return table(
        "Output tokens/s, with the median time to first token below. Orange and a tilde or a range: PROJECTED, not measured; "
        "a range alone is an architecture that was never measured (unvalidated).",
        ("Weights × activations", *(place.gpu for place in rows[0].places)),
        [Group(label, tuple(members)) for label, members in groups.items()],
        notes,
    )


def _workload_text(workload: dict) -> str:
    ask = ask_of(workload)
    if ask is None:
        return workload["name"]
    return f"{workload['name']} ({ask.prompt} in, {ask.output} out, batch {ask.batch})"


def _entry(place: Place, notes: Footnotes) -> Entry:
    speed, first = (place.figure(metric) for metric in METRICS)
    if isinstance(speed, Estimate):
        kernel = f"{place.projection.candidate.kernel}{place.projection.notes}"
        detail = f"{speed.label}; TTFT {first.text}; {kernel}"
        return Entry(speed.text.replace(f" {speed.unit}", ""), speed.unit, detail, tone="projected")
    if isinstance(speed, Number) and speed.median is not None:
        text, unit = split_quantity(speed.median, speed.unit)
        detail = "; ".join(filter(None, ["measured", spread(speed), first.median and f"TTFT {quantity(first.median, 'ms')}"]))
        return Entry(text, unit, detail)
    return notes.dash(place.reason or getattr(speed, "reason", None))


def published_table(rows: Sequence[AcrossRow]) -> Table | None:
    """Figures that others published for these GPUs, beside ranges that nobody here could check."""
    names = {place.gpu for row in rows for place in row.places}
    found = [
        (Entry(point["gpu"], tone="head"), Entry(point["model"]), Entry(point["figure"], detail=point["conditions"]),
         Entry(point["source"], tone="text"))
        for point in published_points(names)
    ]  # fmt: skip
    if not found:
        return None
    caption = "Published by others, never run here: printed beside the ranges, not used to compute them."
    return table(caption, ("GPU", "Model", "Figure", "Source"), [Group("", tuple(found))])
