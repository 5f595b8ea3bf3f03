"""Table of workloads by batch and prompt: throughput and time between tokens, beside the roofline's limit for the same work.

In: `Batches`. Out: Table, a group a variant whose label says where its ceilings come from.
"""

from collections.abc import Sequence

from harness.report.batches import Batches, BatchPoint
from harness.report.cells import REFERENCE_SPEED
from harness.report.grid import Entry, Footnotes, Group, Table, table
from harness.report.limits import activations_of
from harness.report.numbers import grouped, significant

HEADERS = (
    "Workload",
    "Batch",
    "Prompt",
    "Output",
    "Throughput (output)",
    "Limit",
    "Of the limit",
    "Between tokens",
    "Limit of a decode step",
    "Of the limit",
    "Experts hit",
    "Bound by",
)
CAPTION = (
    "Throughput: output tokens/s, prefill included. Its limit: all prompts in one pass and every decode step at the ceilings, "
    "nothing added; bytes are the experts hit × (codes + scales), attention weights, keys and values, head. Experts hit: mean "
    "of the recorded decode steps; for the prompts, expected from the recorded histogram. Between tokens: median ITL. Bound "
    "by: the larger part of a decode step."
)
BOUNDS = {"read": "reading", "product": "computing"}


def limits_table(found: Sequence[Batches]) -> Table:
    """A row a workload."""
    notes = Footnotes()
    groups = [Group(_label(one), tuple(_row(one, point, notes) for point in one.points)) for one in found]
    return table(CAPTION, HEADERS, groups, notes)


def _label(one: Batches) -> str:
    head = one.head
    method = "" if head.method == "none" else f" ({head.method})"
    parts = [head.target, head.model, head.backend, f"{head.name}{method}"]
    parts += [REFERENCE_SPEED] if any(point.cell.is_reference for point in one.points) else []
    told = "no limit" if isinstance(one.ceilings, str) else f"ceilings: {one.ceilings.text(activations_of(head))}"
    return f"{' · '.join(parts)} · {told}"


def _row(one: Batches, point: BatchPoint, notes: Footnotes) -> tuple[Entry, ...]:
    sizes = (Entry(grouped(size)) for size in (point.batch, point.prompt, point.output))
    name = Entry(point.cell.workload, detail=f"routing {point.routing}" if point.routing else "", tone="head")
    throughput, latency = notes.entry(point.throughput), notes.entry(point.latency)
    if point.limit is None:
        dash = notes.dash(point.reason)
        return (name, *sizes, throughput, dash, dash, latency, dash, dash, dash, dash)
    tone = "" if one.ceilings.is_measured else "projected"
    return (
        name,
        *sizes,
        throughput,
        Entry(significant(point.limit.output_tokens_per_s), "tokens/s", tone=tone),
        _share(point.share, point.throughput.reason, tone, notes),
        latency,
        Entry(significant(point.limit.decode_ms), "ms", tone=tone),
        _share(point.latency_share, point.latency.reason, tone, notes),
        Entry(significant(point.experts_hit)),
        Entry(BOUNDS[point.limit.decode.bound_by]),
    )


def _share(share: float | None, reason: str | None, tone: str, notes: Footnotes) -> Entry:
    return notes.dash(reason) if share is None else Entry(f"{100 * share:.0f}", "%", tone=tone)
