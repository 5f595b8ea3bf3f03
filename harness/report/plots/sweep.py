"""Plot of a rate sweep: throughput and goodput against the offered rate, and time to first token below.

In: variants with cells that have a `sweep`. Out: Plot, a figure a (target, model, workload); nothing where there is no sweep.
"""

from collections.abc import Iterator, Sequence

from harness.report.cells import REFERENCE_SPEED, MeasuredCell
from harness.report.plots import canvas, style
from harness.report.tables.serving import sweep_of
from harness.report.variants import Variant

PANEL_IN = 2.2
MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(everyone: Sequence[Variant]) -> Iterator[style.Plot | style.Skipped]:
    found = [cell for variant in everyone for cell in variant.requests if sweep_of(cell)]
    for target, model, workload in dict.fromkeys((c.target, c.model, c.workload) for c in found):
        cells = [cell for cell in found if (cell.target, cell.model, cell.workload) == (target, model, workload)]
        yield _plot(style.slug("rate-sweep", model, workload, target), cells)


def _plot(name: str, cells: list[MeasuredCell]) -> style.Plot:
    from matplotlib.ticker import LogLocator

    first = cells[0]
    slo = first.first["workload"].get("slo") or {}
    note = f"{first.model} on {first.target}, workload {first.workload}."
    if any(cell.is_reference for cell in cells):
        note += f" {REFERENCE_SPEED[0].upper()}{REFERENCE_SPEED[1:]}."
    title = _title(cells)
    figure, (top, bottom) = canvas.panels(title, [PANEL_IN, PANEL_IN], note=note, left_in=0.75, gap_in=0.7)
    canvas.panel_title(top, "Requests a second: answered (line), within the SLO (dotted)")
    canvas.panel_title(bottom, "Time to first token, median, ms")
    for index, cell in enumerate(cells):
        look = {"marker": MARKERS[index % len(MARKERS)], "markersize": 5, "color": style.color(cell.weights)}
        top.plot(*_curve(cell, "request_throughput"), label=_label(cell, cells), **look)
        top.plot(*_curve(cell, "request_goodput"), ":", **look)
        bottom.plot(*_curve(cell, "median_ttft_ms"), **look)
    most = max(x for cell in cells for x in _curve(cell, "request_throughput")[0])
    top.plot([0, most], [0, most], "--", color=style.RULE, linewidth=1.2, label="all that is offered", zorder=0)
    bottom.set_yscale("log")
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bottom.yaxis.set_major_formatter("{x:g}")
    bottom.yaxis.set_minor_formatter("")
    _draw_limit(bottom, slo.get("ttft_ms"))
    for axis in (top, bottom):
        axis.set_xlim(0, None)
        axis.grid()
        axis.set_xlabel("offered, requests/s")
    top.set_ylim(0, None)
    top.legend(loc="upper left")
    caption = "One open-loop measurement a point. Where the line leaves the diagonal, the server no longer follows the load."
    values = "; ".join(f"{_label(c, cells)}: " + ", ".join(f"{x:.3g}/s offered, {y:.3g}/s answered" for x, y in
                       zip(*_curve(c, "request_throughput"), strict=True)) for c in cells)  # fmt: skip
    return style.Plot(name, title, caption, f"Rate sweep. {note} {values}.", canvas.png(figure))


def _draw_limit(axis, limit_ms: float | None) -> None:
    if limit_ms:
        axis.axhline(limit_ms, color=style.MUTED, linewidth=1, linestyle="--")
        place = {"xytext": (4, 3), "textcoords": "offset points"}
        axis.annotate(f"SLO {limit_ms:g} ms", (0, limit_ms), fontsize=9, color=style.MUTED, **place)


def _curve(cell: MeasuredCell, metric: str) -> tuple[list[float], list[float]]:
    rows = [row["metrics"] for row in sweep_of(cell)]
    points = [(row["offered_rate"]["value"], (row.get(metric) or {}).get("value")) for row in rows]
    kept = sorted((x, y) for x, y in points if x is not None and y is not None)
    return [x for x, _ in kept], [y for _, y in kept]


def _label(cell: MeasuredCell, cells: list[MeasuredCell]) -> str:
    return cell.name if len({other.backend for other in cells}) == 1 else f"{cell.name}, {cell.backend}"


def _title(cells: list[MeasuredCell]) -> str:
    rates = [(_label(cell, cells), cell.number("max_slo_rate").median) for cell in cells]
    said = ", ".join(f"{label} {rate:.3g}/s" for label, rate in rates if rate is not None)
    return f"Highest rate within the SLO: {said}" if said else "No rate of the sweep met the SLO"
