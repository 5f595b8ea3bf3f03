"""A profile for people: the table by range, overheads and notes, as rich tables and as Markdown.

In: a record with a `profile` block. Out: rows of text, shared by both. A figure that was not seen is a dash; the reason stands
below the table, with the source of each column.
"""

from collections.abc import Iterator
from typing import Any

from harness.profile.table import PHASES, WAIT

HEADERS = ("range", "calls", "total ms", "mean us", "p50 us", "p99 us", "share", "GPU us", "GPU share", "kernels", "gap us")
DASH = "–"
IN_GRAPH = "Ranges without host times lie inside a CUDA graph, which the host launches as a whole"
COUNTERS = ("Duration", "Memory Throughput", "DRAM Throughput", "Compute (SM) Throughput", "Achieved Occupancy")


def rows(block: dict) -> Iterator[tuple[str, ...]]:
    """One a range, indented by depth."""
    for row in block["rows"]:
        depth = len(row["path"]) - 1
        yield (
            "  " * depth + row["path"][-1],
            DASH if row["count"] is None else f"{row['count']}",
            _number(row["total_ns"], 1e6, 2),
            *(_number(row[key], 1e3, 1) for key in ("mean_ns", "p50_ns", "p99_ns")),
            _percent(row["share"]),
            _number(row["gpu_ns"], 1e3, 1),
            _percent(row["gpu_share"]),
            _number(row["kernels"], 1, 1),
            _number(row["gap_ns"], 1e3, 1),
        )


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, unit: float, digits: int) -> str:
    return DASH if value is None else f"{value / unit:,.{digits}f}"


def lines(block: dict) -> Iterator[str]:
    """What a reader must know beside the table."""
    sources = block["sources"]
    yield f"Host times from {sources['host']}; " + (
        f"GPU time, kernels and gaps (means a call) from {sources['gpu']}."
        if sources["gpu"]
        else f"no GPU columns: {sources['no_gpu']}."
    )
    yield from _attribution(block)
    if any(row["p99_ns"] is None and row["count"] for row in block["rows"]):
        yield "p99 needs 100 calls or more."
    if any(row["count"] is None for row in block["rows"]):
        yield IN_GRAPH + "."
    for one in block["overhead"]:
        ratio = "" if one["ratio"] is None or one["what"] == "off" else f", {100 * (one['ratio'] - 1):+.1f} % of off"
        yield (
            f"Decode step, {one['what']}: median {one['median_ms']:.3f} ms "
            f"(quartiles {one['low_ms']:.3f} to {one['high_ms']:.3f}, n = {one['n']}){ratio}."
        )
    cost = block.get("cost") or {}
    if "collector_share" in cost:
        nsys = f"under nsys, {cost['nvtx_ns']:.0f} ns each, {100 * cost['nvtx_share']:.2f} %; " if "nvtx_share" in cost else ""
        yield (
            f"By their price: {cost['ranges_a_step']:.0f} ranges a decode step at {cost['collector_ns']:.0f} ns each are "
            f"{100 * cost['collector_share']:.2f} % of it; {nsys}"
            f"off, {cost['off_ns']:.0f} ns each, {100 * cost['off_share']:.2f} %."
        )
    yield from block["notes"]
    yield from _counters(block.get("ncu"))


def _attribution(block: dict) -> Iterator[str]:
    """How much of the time lies in named ranges: of a whole decode step first, then of what each phase's own range covers."""
    step = block.get("host_step")
    waits = any(row["path"] == [WAIT] for row in block["rows"])
    if step:
        parts = sorted(step["parts"].items(), key=lambda part: -part[1])
        told = [f"{name}{' (the launch)' if waits and name in PHASES else ''} {_of(ns, step)}" for name, ns in parts]
        yield (
            f"From one decode step to the next the host's thread spends {step['period_ns'] / 1e3:,.1f} us (mean of "
            f"{step['num_steps']}): {', '.join(told)}, between ranges {_of(step['unnamed_ns'], step)}. So "
            f"{_of(step['period_ns'] - step['unnamed_ns'], step)} of a decode step's time lies in named ranges."
        )
    for phase, shares in block["attributed"].items():
        parts = " and ".join(
            f"{100 * share:.1f} % of the {'GPU' if kind == 'gpu' else kind} time" for kind, share in shares.items()
        )
        mean = next((row["mean_ns"] for row in block["rows"] if row["path"] == [phase]), None)
        launch = f"; its host time is that of the launch alone, {mean / 1e3:,.1f} us" if waits and mean is not None else ""
        yield f"{parts} of the range {phase} lies in ranges inside it that name a piece of work{launch}."


def _of(ns: float, step: dict) -> str:
    return f"{100 * ns / step['period_ns']:.1f} %"


def _counters(found: dict | None) -> Iterator[str]:
    if found is None:
        return
    if "problem" in found:
        yield found["problem"]
        return
    shown = "; ".join(f"{m['name']} {m['value']} {m['unit']}".strip() for m in found["metrics"] if m["name"] in COUNTERS)
    yield f"ncu, first kernel in {found['inside']}: {found['kernel']}: {shown or 'none of the usual counters'}"


def rich_table(record: dict) -> Any:
    """For a terminal."""
    from rich import box
    from rich.table import Table

    block = record["profile"]
    title = f"{record['precision']['label']}, {record['workload']['name']}, {record['model']} on {record['target']['name']}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows(block):
        table.add_row(*row, style="bold" if not row[0].startswith(" ") else "")
    return table


def markdown(records: list[dict]) -> str:
    """profile.md: every profiled cell."""
    parts = ["# Where the time goes", ""]
    for record in records:
        block = record["profile"]
        parts += [f"## {record['cell_id']}", "", "| " + " | ".join(HEADERS) + " |", "|---" + "|---:" * (len(HEADERS) - 1) + "|"]
        for name, *figures in rows(block):
            shown = name.replace("  ", "&emsp;")
            parts.append(f"| {shown} | " + " | ".join(figures) + " |")
        parts += ["", *(f"- {line}" for line in lines(block)), ""]
    return "\n".join(parts)
