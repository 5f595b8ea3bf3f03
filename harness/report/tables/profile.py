"""Tables of a profile: time by range, the roofline by kind of work and by layer, what listening cost.

In: measured cells with a `profile` block. Out: Tables. A figure that no source saw is a dash with its reason below.
"""

from collections.abc import Iterator, Sequence

from harness.profile.render import DASH, IN_GRAPH
from harness.profile.roofline import Point, by_name, points
from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.numbers import significant

RANGES = ("Range", "Calls", "Total", "Mean", "p50", "p99", "Share", "GPU a call", "GPU share", "Kernels", "Gaps a call")
NOT_INSIDE = "no kernel was launched inside"
IN_ROWS = "its kernels stand in the rows of the ranges that they were captured in"
ROOFLINE = ("Work", "Experts hit", "Bytes", "Operations", "Time", "Read", "Computed", "Limit", "Share of limit", "Bound by")


def blocks(cells: Sequence[MeasuredCell]) -> Iterator[tuple[MeasuredCell, dict]]:
    """Cells with a profile."""
    for cell in cells:
        block = next((record["profile"] for record in cell.records if record.get("profile")), None)
        if block:
            yield cell, block


def label(cell: MeasuredCell) -> str:
    reference = f" · {REFERENCE_SPEED}" if cell.is_reference else ""
    return f"{cell.name} ({cell.method}) · {cell.workload} · {cell.model} · {cell.target}{reference}"


def ranges_table(cells: Sequence[MeasuredCell]) -> Table:
    """A row a path of ranges, a group a cell."""
    notes, groups = Footnotes(), []
    for cell, block in blocks(cells):
        why = block["sources"]["no_gpu"] or NOT_INSIDE
        groups.append(Group(label(cell), tuple(_range_row(row, notes, why) for row in block["rows"])))
    caption = (
        "Time by range. Indented ranges lie inside the one above. GPU: what the kernels launched inside added to the busy "
        "time; gaps: time between two of them in which none ran. The source of each column stands below."
    )
    return table(caption, RANGES, groups, notes)


def _range_row(row: dict, notes: Footnotes, why: str) -> tuple[Entry, ...]:
    depth = len(row["path"]) - 1
    name = "\u2003" * depth + row["path"][-1]
    shown = [Entry(name, tone="" if depth else "head")]
    for key, form in HOST_COLUMNS.items():
        reason = "p99 needs 100 calls" if row["count"] else IN_GRAPH
        shown.append(notes.dash(reason) if row[key] is None else form(row[key]))
    why = IN_ROWS if name.strip() == "graph replay" and why == NOT_INSIDE else why
    for key, form in GPU_COLUMNS.items():
        shown.append(notes.dash(why) if row[key] is None else form(row[key]))
    return tuple(shown)


def _us(ns: float) -> Entry:
    return Entry(significant(ns / 1e3, 4), "µs")


def _percent(share: float) -> Entry:
    return Entry(f"{100 * share:.1f}", "%")


HOST_COLUMNS = {
    "count": lambda value: Entry(f"{value}"),
    "total_ns": lambda value: Entry(f"{value / 1e6:.2f}", "ms"),
    "mean_ns": _us,
    "p50_ns": _us,
    "p99_ns": _us,
    "share": _percent,
}
GPU_COLUMNS = {
    "gpu_ns": _us,
    "gpu_share": _percent,
    "kernels": lambda value: Entry(significant(value, 3)),
    "gap_ns": _us,
}
"""Key of a row in the record -> its Entry."""


def roofline_table(cells: Sequence[MeasuredCell]) -> Table:
    """All layers of a decode step together, a row a kind of work."""
    groups = [Group(label(cell), tuple(map(_point_row, by_name(points(block))))) for cell, block in blocks(cells)]
    caption = (
        "Roofline of a decode step, all layers together: bytes are the experts really hit × (codes + scales), projections, "
        "keys and values; ceilings were measured in the same process."
    )
    return table(caption, ROOFLINE, [group for group in groups if group.rows], Footnotes())


def layers_table(cells: Sequence[MeasuredCell]) -> Table:
    """Experts and attention of each layer."""
    groups = []
    for cell, block in blocks(cells):
        found = [point for point in points(block) if point.layer is not None and point.name in ("experts", "attention")]
        rows = tuple((Entry(f"{point.layer}"), *_point_row(point)) for point in found)
        groups += [Group(label(cell), rows)] if rows else []
    return table("Roofline by layer.", ("Layer", *ROOFLINE), groups, Footnotes(), folded=True)


def _point_row(point: Point) -> tuple[Entry, ...]:
    source = "GPU time" if point.is_gpu else "host time"
    return (
        Entry(point.name, tone="head"),
        Entry(DASH if point.experts_hit is None else significant(point.experts_hit, 3)),
        Entry(significant(point.num_bytes / 1e6, 3), "MB"),
        Entry(significant(point.flops / 1e6, 3), "MFLOP"),
        Entry(significant(point.us, 4), "µs", source),
        Entry(significant(point.gb_s, 3), "GB/s"),
        Entry(significant(point.tflops * 1e3, 3), "GFLOP/s"),
        Entry(significant(point.limit_us, 3), "µs"),
        Entry(significant(100 * point.share, 3), "%"),
        Entry(point.bound_by),
    )


def overhead_table(cells: Sequence[MeasuredCell]) -> Table:
    """Decode steps under each kind of listening."""
    groups = []
    for cell, block in blocks(cells):
        rows = [
            (
                Entry(one["what"], tone="head"),
                Entry(significant(one["median_ms"], 4), "ms", f"{one['low_ms']:.3g}–{one['high_ms']:.3g}, n = {one['n']}"),
                Entry(DASH if one["ratio"] is None else f"{100 * (one['ratio'] - 1):+.1f}", "%" if one["ratio"] else ""),
            )
            for one in block["overhead"]
        ]
        groups.append(Group(label(cell), tuple(rows)))
    caption = "What listening cost: the median decode step with its quartiles, and the change against nothing listening."
    return table(caption, ("Listening", "Decode step", "Against off"), groups, Footnotes(), folded=True)


def notes(cells: Sequence[MeasuredCell]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(cell, sentences) on sources, attribution and price of every profile; what all share comes first, under no name."""
    from harness.profile.render import lines

    told = [(cell, [line for line in lines(block) if not line.startswith("Decode step,")]) for cell, block in blocks(cells)]
    shared = [line for line in told[0][1] if all(line in own for _, own in told)]
    found = [("", shared)]
    for cell, own in told:
        name = f"{cell.name}, {cell.workload}" if len({cell.name for cell, _ in told}) > 1 else cell.workload
        found.append((name if len(told) > 1 else "", [line for line in own if line not in shared]))
    return tuple((name, tuple(map(_ended, left))) for name, left in found if left)


def _ended(line: str) -> str:
    return line if line.endswith((".", "!", "?")) else f"{line}."
