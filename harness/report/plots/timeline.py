"""Timeline of the requests of one repeat: waiting, prefill, decode, a panel a precision.

In: the request samples (parquet) of the cells. Out: Plot, a figure a (target, model, workload).
Of several repeats the one with the middle throughput is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.numbers import significant
from harness.report.plots import canvas, style
from harness.report.variants import Variant

MAX_REQUESTS, MAX_TOKEN_MARKS = 32, 1600
FEW_REQUESTS, ROW_IN, THIN_ROW_IN = 12, 0.17, 0.1
WAIT_COLOR, PREFILL_COLOR = "#d3d8de", "#1b1f24"
STAMPS = ("scheduled_ns", "submitted_ns", "first_token_ns", "end_ns")


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests of one cell, times in seconds since its first scheduled request."""

    cell: MeasuredCell
    repeat: int
    num_requests: int
    spans: tuple[tuple[float, float, float, float], ...]  # scheduled, submitted, first token, end
    tokens: tuple[tuple[float, ...], ...]

    @property
    def end_s(self) -> float:
        return max(span[3] for span in self.spans)


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
            yield style.Skipped(name, found[0] if found else f"every repeat of {workload} failed")


def _lane(cell: MeasuredCell) -> Lane | str:
    """The lane of the repeat with the middle throughput, or the reason that there is none."""
    import pyarrow.parquet as parquet

    record = sorted(cell.records, key=_throughput)[len(cell.records) // 2]
    relative = (record.get("samples") or {}).get("requests")
    if not relative:
        return f"no request samples were recorded for {cell.cell_id}"
    path = cell.run.path / relative
    if not path.is_file():
        return f"the request samples {relative} are missing"
    rows = parquet.read_table(path, columns=[*STAMPS, "token_times_ns"]).to_pylist()
    rows = sorted((row for row in rows if row["end_ns"]), key=lambda row: row["scheduled_ns"])
    if not rows:
        return f"no request of {cell.cell_id} got a token"
    zero_ns, shown = rows[0]["scheduled_ns"], rows[:MAX_REQUESTS]
    spans = tuple(tuple((row[stamp] - zero_ns) / 1e9 for stamp in STAMPS) for row in shown)
    tokens = tuple(tuple((ns - zero_ns) / 1e9 for ns in row["token_times_ns"] or ()) for row in shown)
    return Lane(cell, record.get("repeat", 0), len(rows), spans, tokens)


def _throughput(record: dict) -> float:
    return ((record.get("metrics") or {}).get("output_throughput") or {}).get("value") or 0.0


def _plot(name: str, lanes: list[Lane]) -> style.Plot:
    first = lanes[0].cell
    title = _title(lanes)
    speed = f" {REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}." if first.is_reference else ""
    note = f"{first.model} on {first.target}.{speed}"
    row_in = ROW_IN if max(len(lane.spans) for lane in lanes) <= FEW_REQUESTS else THIN_ROW_IN
    heights = [max(0.62, row_in * len(lane.spans) + 0.08) for lane in lanes]
    figure, axes = canvas.panels(title, heights, note=note, left_in=0.75, gap_in=0.32, bottom_in=0.95)
    for axis, lane in zip(axes, lanes, strict=True):
        _panel(axis, lane)
        axis.set_xlim(0, 1.02 * max(lane.end_s for lane in lanes))
    axes[-1].tick_params(labelbottom=True)
    axes[-1].set_xlabel("seconds since the first request was scheduled")
    _legend(figure)
    total = lanes[0].num_requests
    drawn = f"the first {MAX_REQUESTS} of {total}" if total > MAX_REQUESTS else f"n = {total}"
    caption = (
        f"A line a request ({drawn}), each precision from its repeat with the middle throughput. "
        "White ticks are tokens; a wide gap between ticks is a stall."
    )
    values = "; ".join(f"{lane.cell.name}: last token after {significant(lane.end_s)} s" for lane in lanes)
    alt = f"Timeline of requests, workload {first.workload}, {note} {values}."
    return style.Plot(name, title, caption, alt, canvas.png(figure))


def _panel(axis, lane: Lane) -> None:
    num_rows = len(lane.spans)
    scheduled, submitted, first, last = (list(column) for column in zip(*lane.spans, strict=True))
    parts = (
        (scheduled, submitted, WAIT_COLOR),
        (submitted, first, PREFILL_COLOR),
        (first, last, style.color(lane.cell.weights)),
    )
    for start, stop, shade in parts:
        widths = [b - a for a, b in zip(start, stop, strict=True)]
        axis.barh(range(num_rows), widths, 0.72, left=start, color=shade)
    marks = [(second, row) for row, times in enumerate(lane.tokens) for second in times[1:-1]]
    if 0 < len(marks) <= MAX_TOKEN_MARKS:
        xs, ys = zip(*marks, strict=True)
        ends = [y - 0.36 for y in ys], [y + 0.36 for y in ys]
        axis.vlines(xs, *ends, color="white", linewidth=0.5, alpha=0.8)
    method = "" if lane.cell.method == "none" else f", {lane.cell.method}"
    canvas.panel_title(axis, lane.cell.name + method)
    axis.set_ylim(num_rows - 0.4, -0.6)
    axis.set_yticks([0, num_rows - 1] if num_rows > 1 else [0])
    axis.set_ylabel("request", labelpad=2)
    axis.tick_params(labelbottom=False, axis="x")
    axis.tick_params(axis="y", labelsize=9)
    axis.grid(axis="x")


def _legend(figure) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=WAIT_COLOR, label="waiting"),
        Patch(color=PREFILL_COLOR, label="submit to first token"),
        Patch(facecolor=style.color("bf16"), label="first to last token (color of the format)"),
    ]
    figure.legend(handles=handles, loc="lower left", ncols=3, columnspacing=1.2, handlelength=1.0, handletextpad=0.5)


def _title(lanes: list[Lane]) -> str:
    shares = [100 * sum(s[2] - s[0] for s in lane.spans) / max(sum(s[3] - s[0] for s in lane.spans), 1e-12) for lane in lanes]
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    span = low if low == high else f"{low} to {high}"
    return f"{lanes[0].cell.workload}: {span} % of the requests' time passes before their first token"
