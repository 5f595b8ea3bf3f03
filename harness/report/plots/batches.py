"""Plot of throughput against latency over batch and prompt length, with the roofline's limit for the same work.

In: variants. Out: Plot, a figure a (target, model), a panel a precision and backend; nothing where fewer than three workloads
differ in batch or prompt. A point a workload, joined by prompt length and labelled with its batch.
"""

from collections.abc import Iterator, Sequence

from harness.report.batches import Batches, BatchPoint, batches_of
from harness.report.cells import REFERENCE_SPEED
from harness.report.limits import activations_of
from harness.report.numbers import grouped, quantity, significant
from harness.report.plots import canvas, style
from harness.report.plots.labels import label_points
from harness.report.variants import Variant

PANEL_IN, MAX_PANELS, LEGEND_COLUMNS, LEGEND_ROW_IN = 3.3, 4, 3, 0.2
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
ROOM = {"x": 1.35, "y": 1.7}
"""Factor of room on each side of the points, for their labels."""
TICKS = ((20.0, (1, 2, 3, 5, 7)), (300.0, (1, 2, 5)), (float("inf"), (1,)))
"""Largest over smallest value, up to which an axis has these ticks a decade."""


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    found = list(batches_of(everyone))
    for target, model in dict.fromkeys((one.head.target, one.head.model) for one in found):
        ours = [one for one in found if (one.head.target, one.head.model) == (target, model)]
        drawn = [one for one in ours if sum(point.is_measured for point in one.points) > 1]
        name = style.slug("throughput-latency", model, target)
        if drawn:
            yield _plot(name, drawn[:MAX_PANELS], [_name(one, ours) for one in drawn[MAX_PANELS:]])
        else:
            yield style.Skipped(name, "fewer than two of its workloads have a throughput and a time between tokens")


def _plot(name: str, found: list[Batches], left_out: list[str]) -> style.Plot:
    series = list(dict.fromkeys(point.series for one in found for point in one.points if point.is_measured))
    rows = -(-(len(series) + 2) // LEGEND_COLUMNS)
    title, note = _title(found), _note(found, left_out)
    sizes = {"left_in": 0.75, "gap_in": 0.75, "bottom_in": 0.62 + LEGEND_ROW_IN * rows}
    figure, axes = canvas.panels(title, [PANEL_IN] * len(found), note=note, **sizes)
    everywhere = [place for one in found for place in (*_places(one), *_limits(one))]
    for axis, one in zip(axes, found, strict=True):
        _scale(axis.xaxis, [x for x, _ in everywhere])
        _scale(axis.yaxis, [y for _, y in everywhere])
        _panel(axis, one, series, _name(one, found))
    _legend(figure, found, series)
    caption = (
        "A point a workload; its number is the batch. Up is more tokens for everyone, left is faster for each. Median over the "
        f"repeats. {_about_limits(found)}"
    )
    values = "; ".join(_words(point, _name(one, found)) for one in found for point in one.points if point.is_measured)
    return style.Plot(name, title, caption, f"Throughput against latency. {note} {values}.", canvas.png(figure))


def _panel(axis, one: Batches, series: list[tuple], name: str) -> None:
    measured = [point for point in one.points if point.is_measured]
    for key in series:
        ours = [point for point in measured if point.series == key]
        look = {"marker": MARKERS[series.index(key) % len(MARKERS)], "markersize": 5.5, "color": _color(key, series)}
        axis.plot([p.latency.median for p in ours], [p.throughput.median for p in ours], linewidth=1.5, **look)
        known = [p.limit for p in ours if p.limit is not None]
        line = "--" if not isinstance(one.ceilings, str) and one.ceilings.is_measured else ":"
        hollow = {"linestyle": line, "markerfacecolor": "white", "linewidth": 1.1, "zorder": 1.5}
        axis.plot([k.decode_ms for k in known], [k.output_tokens_per_s for k in known], **look | hollow)
    axis.grid(True)
    axis.set_xlabel("median time between two tokens of a request, ms")
    places = [*_places(one), *_limits(one)]
    owners = [*measured, *(p for p in measured if p.limit is not None)]
    labels = [(*place, str(p.batch), _color(p.series, series)) for place, p in zip(places, owners, strict=True)]
    label_points(axis, labels)
    canvas.panel_title(axis, f"{name}: output tokens/s")


def _places(one: Batches) -> list[tuple[float, float]]:
    return [(point.latency.median, point.throughput.median) for point in one.points if point.is_measured]


def _limits(one: Batches) -> list[tuple[float, float]]:
    """Of the points that were measured, in their order."""
    found = [point.limit for point in one.points if point.is_measured and point.limit is not None]
    return [(limit.decode_ms, limit.output_tokens_per_s) for limit in found]


def _scale(axis, values: list[float]) -> None:
    """Logarithmic, with room on both sides and plain numbers; the fewer, the more decades there are."""
    from matplotlib.ticker import LogLocator

    place = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    place(min(values) / ROOM[axis.axis_name], max(values) * ROOM[axis.axis_name])
    ratio = max(values) / min(values)
    axis.set_major_locator(LogLocator(subs=next(subs for most, subs in TICKS if ratio <= most)))
    axis.set_major_formatter(lambda value, _: grouped(value) if value >= 1 else f"{value:g}")
    axis.set_minor_formatter("")
    axis.set_tick_params(which="minor", length=0)


def _legend(figure, found: list[Batches], series: list[tuple]) -> None:
    from matplotlib.lines import Line2D

    outputs = len({output for _, output, _ in series}) > 1
    handles = [
        Line2D([], [], marker=MARKERS[i % len(MARKERS)], color=_color(key, series), label=_series_name(key, outputs))
        for i, key in enumerate(series)
    ]
    kinds = {one.ceilings.is_measured for one in found if any(point.limit for point in one.points)}
    texts = {True: ("--", "limit, measured ceilings"), False: (":", "limit, DATA SHEET")}
    for kind in sorted(kinds, reverse=True):
        line, text = texts[kind]
        hollow = {"marker": "o", "markerfacecolor": "white", "color": style.MUTED}
        handles.append(Line2D([], [], linestyle=line, label=text, **hollow))
    figure.legend(handles=handles, loc="lower left", ncols=LEGEND_COLUMNS, columnspacing=1.2, handletextpad=0.5)


def _series_name(key: tuple[int, int, str], tells_output: bool) -> str:
    prompt, output, routing = key
    parts = [f"prompt {prompt}", f"{output} out" if tells_output else "", routing]
    return ", ".join(part for part in parts if part)


def _color(key: tuple, series: list[tuple]) -> str:
    return COLORS[series.index(key) % len(COLORS)]


def _name(one: Batches, everyone: list[Batches]) -> str:
    head = one.head
    method = "" if head.method == "none" else f" ({head.method})"
    backend = f", {head.backend}" if len({other.head.backend for other in everyone}) > 1 else ""
    return f"{head.name}{method}{backend}"


def _title(found: list[Batches]) -> str:
    points = [point for one in found for point in one.points if point.is_measured]
    best = max(points, key=lambda point: point.throughput.median)
    text = f"Up to {significant(best.throughput.median)} output tokens/s at batch {best.batch}"
    shares = [100 * point.share for point in points if point.share is not None]
    if not shares:
        return f"{text}, prompt {best.prompt}"
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    span = low if low == high else f"{low} to {high}"
    all_measured = all(one.ceilings.is_measured for one in found if not isinstance(one.ceilings, str))
    return f"{text}; {span} % of what {'the roofline' if all_measured else 'the data sheet'} allows"


def _note(found: list[Batches], left_out: list[str]) -> str:
    head = found[0].head
    parts = [f"{head.model} on {head.target}. Numbers: batch."]
    parts += [f"{REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}."] if any(one.head.is_reference for one in found) else []
    failed = dict.fromkeys(point.cell.workload for one in found for point in one.points if not point.is_measured)
    parts += [f"Not measured: {', '.join(failed)}."] if failed else []
    parts += [f"In the table only: {', '.join(left_out)}."] if left_out else []
    return " ".join(parts)


def _about_limits(found: list[Batches]) -> str:
    """Where each limit comes from, or why there is none."""
    said = dict.fromkeys(
        one.ceilings if isinstance(one.ceilings, str) else one.ceilings.text(activations_of(one.head)) for one in found
    )
    reasons = dict.fromkeys(p.reason for one in found for p in one.points if p.is_measured and p.reason)
    if not any(point.limit for one in found for point in one.points):
        return f"No limit line: {'; '.join(reasons)}."
    without = f" Without a limit: {'; '.join(reasons)}." if reasons else ""
    return (
        "Hollow: what the same batch could reach, every byte and operation at the ceilings and nothing added; "
        f"{'; '.join(said)}.{without}"
    )


def _words(point: BatchPoint, name: str) -> str:
    share = "" if point.share is None else f", {100 * point.share:.0f} % of the limit"
    speed, gap = (quantity(number.median, number.unit) for number in (point.throughput, point.latency))
    return f"{name}, {point.cell.workload} (batch {point.batch}, prompt {point.prompt}): {speed} at {gap}{share}"
