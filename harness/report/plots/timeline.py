"""Timeline of the requests of one repeat: waiting, prefill, decode, a panel a precision, a figure a (target, model, workload).

In: the request samples (parquet) of the cells. Out: Plot. Of several repeats the one with the middle throughput is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.numbers import significant
from harness.report.plots import style
from harness.report.variants import Variant

MAX_REQUESTS, MAX_TOKEN_MARKS = 32, 1200
WAIT_COLOR, PREFILL_COLOR = "#d3d8de", "#1b1f24"
COLUMNS = ["request_id", "scheduled_ns", "submitted_ns", "first_token_ns", "end_ns", "token_times_ns"]


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests of one cell, times in seconds since its first scheduled request."""

    cell: MeasuredCell
    repeat: int
    num_requests: int
    spans: tuple[tuple[float, float, float, float], ...]  # scheduled, submitted, first token, end
    tokens: tuple[tuple[float, ...], ...]


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    cells = [cell for variant in everyone for cell in variant.requests]
    for target, model, workload in dict.fromkeys((c.target, c.model, c.workload) for c in cells):
        ours = [c for c in cells if (c.target, c.model, c.workload) == (target, model, workload)]
        name = style.slug("timeline", model, workload, target)
        found = [_lane(cell) for cell in ours if cell.records]
        lanes = [lane for lane in found if isinstance(lane, Lane)]
        if lanes:
            yield _plot(name, lanes)
        else:
            yield style.Skipped(name, str(found[0]) if found else f"every repeat of {workload} failed")


def _lane(cell: MeasuredCell) -> Lane | str:
    """The lane of the middle repeat, or the reason that there is none."""
    import pyarrow.parquet as parquet

    def speed(record: dict) -> float:
        return ((record.get("metrics") or {}).get("output_throughput") or {}).get("value") or 0.0

    record = sorted(cell.records, key=speed)[len(cell.records) // 2]
    relative = (record.get("samples") or {}).get("requests")
    if not relative:
        return f"no request samples were recorded for {cell.cell_id}"
    path = cell.run.path / relative
    if not path.is_file():
        return f"the request samples {relative} are missing"
    rows = [
        row for row in parquet.read_table(path).to_pylist() if row.get("first_token_ns") and row.get("end_ns")
    ]
    if not rows:
        return f"no request of {cell.cell_id} finished"
    rows.sort(key=lambda row: row["scheduled_ns"])
    zero = rows[0]["scheduled_ns"]
    spans = tuple(tuple((row[key] - zero) / 1e9 for key in COLUMNS[1:5]) for row in rows[:MAX_REQUESTS])
    tokens = tuple(
        tuple((t - zero) / 1e9 for t in row.get("token_times_ns") or ()) for row in rows[:MAX_REQUESTS]
    )
    return Lane(cell, record.get("repeat", 0), len(rows), spans, tokens)


def _plot(name: str, lanes: list[Lane]) -> style.Plot:
    first = lanes[0].cell
    title = _title(lanes)
    note = f"{first.model} on {first.target}." + (
        f" {REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}." if first.is_reference else ""
    )
    row_in = 0.1 if max(len(lane.spans) for lane in lanes) > 12 else 0.17
    figure, axes = style.panels(
        title,
        [max(0.45, row_in * len(lane.spans) + 0.08) for lane in lanes],
        note=note,
        left_in=0.75,
        gap_in=0.32,
        bottom_in=0.95,
    )
    end = max(span[3] for lane in lanes for span in lane.spans)
    for axis, lane in zip(axes, lanes, strict=True):
        _panel(axis, lane, end)
    axes[-1].tick_params(labelbottom=True)
    axes[-1].set_xlabel("seconds since the first request was scheduled")
    _legend(figure)
    drawn = (
        f"the first {MAX_REQUESTS} of {lanes[0].num_requests}"
        if lanes[0].num_requests > MAX_REQUESTS
        else f"all {lanes[0].num_requests}"
    )
    caption = (
        f"A line a request ({drawn} requests), each precision from its repeat with the middle throughput. White ticks are "
        "tokens; a wide gap between ticks is a stall."
    )
    values = "; ".join(
        f"{lane.cell.name}, repeat {lane.repeat}: last token after {significant(max(s[3] for s in lane.spans))} s"
        for lane in lanes
    )
    return style.Plot(
        name,
        title,
        caption,
        f"Timeline of requests, workload {first.workload}, {note} {values}.",
        style.png(figure),
    )


def _panel(axis, lane: Lane, end: float) -> None:
    rows = range(len(lane.spans))
    hue = style.color(lane.cell.weights)
    scheduled, submitted, first, last = (list(column) for column in zip(*lane.spans, strict=True))
    for start, stop, shade in (
        (scheduled, submitted, WAIT_COLOR),
        (submitted, first, PREFILL_COLOR),
        (first, last, hue),
    ):
        widths = [b - a for a, b in zip(start, stop, strict=True)]
        axis.barh(rows, widths, 0.72, left=start, color=shade)
    if sum(len(times) for times in lane.tokens) <= MAX_TOKEN_MARKS:
        xs = [t for times in lane.tokens for t in times[1:-1]]
        ys = [row for row, times in enumerate(lane.tokens) for _ in times[1:-1]]
        axis.vlines(
            xs, [y - 0.36 for y in ys], [y + 0.36 for y in ys], color="white", linewidth=0.5, alpha=0.8
        )
    style.panel_title(
        axis, f"{lane.cell.name}" + ("" if lane.cell.method == "none" else f", {lane.cell.method}")
    )
    axis.set_xlim(0, 1.02 * end)
    axis.set_ylim(len(lane.spans) - 0.4, -0.6)
    axis.set_yticks([0, len(lane.spans) - 1] if len(lane.spans) > 1 else [0])
    axis.set_ylabel("request", labelpad=2)
    axis.tick_params(labelbottom=False, axis="x")
    axis.tick_params(axis="y", labelsize=9)
    axis.grid(axis="x")


def _legend(figure) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=WAIT_COLOR, label="waiting"),
        Patch(color=PREFILL_COLOR, label="submit to first token"),
        Patch(facecolor=style.COLORS["bf16"], label="first to last token (color of the format)"),
    ]
    figure.legend(
        handles=handles, loc="lower left", ncols=3, columnspacing=1.2, handlelength=1.0, handletextpad=0.5
    )


def _title(lanes: list[Lane]) -> str:
    workload = lanes[0].cell.workload
    shares = [
        100 * sum(s[2] - s[0] for s in lane.spans) / max(sum(s[3] - s[0] for s in lane.spans), 1e-12)
        for lane in lanes
    ]
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    span = low if low == high else f"{low} to {high}"
    return f"{workload}: {span} % of the requests' time passes before their first token"
