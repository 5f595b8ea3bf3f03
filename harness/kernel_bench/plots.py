"""Two plots of a bench: the roofline (intensity against TFLOP/s) and the time a layer against the number of tokens.

In: bench.json and rows. Out: (name, PNG bytes). A panel a format, since each has its own limit; a kernel has one color in
all of them, peers and the reference are dashed. Within a format all kernels have the same intensity at the same number of
tokens, so that number stands once, under the lowest point. Needs matplotlib and Pillow. Draws nothing that was not
measured: ceilings and limits are those of the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.kernel_bench.rows import OK
from harness.report.numbers import significant
from harness.report.plots import style
from harness.report.plots.canvas import panel_title, panels, png

COLORS = ("#0072b2", "#d55e00", "#009e73", "#a6559d", "#e69f00", "#56b4e9", "#8c564b", "#1b1f24", "#7f7f7f")
MARKERS = "osD^vPX*h"
ROOF, DASHES = "#6b7683", (0, (4, 2))
ONE_PANEL_IN, PANEL_IN, AXIS_LABELS_IN, LEGEND_LINE_IN = 3.7, 2.7, 0.72, 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """How a kernel is drawn in every panel."""

    color: str
    marker: str
    is_dashed: bool

    @property
    def line(self) -> dict:
        dashes = DASHES if self.is_dashed else "-"
        return {"color": self.color, "marker": self.marker, "ms": 5, "lw": 1.5, "ls": dashes, "mec": "white", "mew": 0.6}


def draw(info: dict, rows: list[dict]) -> Iterator[tuple[str, bytes]]:
    """roofline and latency; rows without a time are left out."""
    measured = sorted((row for row in rows if row["status"] == OK), key=lambda row: row["tokens"])
    with style.context():
        yield "roofline", _roofline(info["ceilings"], measured)
        yield "latency", _latency(measured)


def looks(rows: list[dict]) -> dict[str, Look]:
    """Kernel -> look: own kernels first, then peers."""
    own = sorted(dict.fromkeys((row["is_peer"] or row["is_reference"], row["kernel"]) for row in rows))
    return {
        name: Look(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], is_dashed) for i, (is_dashed, name) in enumerate(own)
    }


def _panels(title: str, rows: list[dict], extra_legend: list):
    """(figure, [(axes, rows of one format)], looks)."""
    formats = list(dict.fromkeys(row["format"] for row in rows))
    known, first = looks(rows), rows[0]
    note = f"One MoE layer of {first['model']} on {first['gpu']}, {first['routing']} routing. "
    note += " ".join(sorted({f"{row['label'][0].upper()}{row['label'][1:]}." for row in rows if row["label"]}))
    height_in = ONE_PANEL_IN if len(formats) == 1 else PANEL_IN
    below_in = AXIS_LABELS_IN + LEGEND_LINE_IN * ((len(known) + len(extra_legend) + 1) // 2)
    sizes = {"left_in": 0.85, "right_in": 0.35, "bottom_in": below_in, "gap_in": 0.5}
    figure, axes = panels(title, [height_in] * len(formats), note=note, **sizes)
    _legend(figure, known, extra_legend)
    parts = []
    for one, name in zip(axes, formats, strict=True):
        panel_title(one, name.replace(" x ", " × "))
        parts.append((one, [row for row in rows if row["format"] == name]))
    return figure, parts, known


def _roofline(ceilings: dict, rows: list[dict]) -> bytes:
    figure, parts, known = _panels(_roofline_title(rows), rows, [])
    intensities = [row["flops"] / row["weight_bytes"] for row in rows]
    low, high = min(intensities) / 1.7, max(intensities) * 2.2
    for axes, own in parts:
        _log_axes(axes, "TFLOP/s")
        axes.set_xlim(low, high)
        kind = own[0]["product_ceiling"]
        read, product = ceilings["best_read_gb_s"], ceilings["product_tflops"][kind]
        bottom = min(row["tflops"] for row in own) / 3
        axes.set_ylim(bottom, product * 2.2)
        for name, look in known.items():
            points = [(row["flops"] / row["weight_bytes"], row["tflops"]) for row in own if row["kernel"] == name]
            if points:
                axes.plot(*zip(*points, strict=True), zorder=3, **look.line)
        _roof(axes, low, high, read=read, product=product, kind=kind)
        _token_labels(axes, own)
    parts[-1][0].set_xlabel("operations a byte of the experts hit; under the points: tokens")
    return png(figure)


def _roof(axes, low: float, high: float, *, read: float, product: float, kind: str) -> None:
    """Slope and plateau, each with its figure."""
    knee = min(product * 1e3 / read, high)  # TFLOP/s over GB/s is 1e3 operations a byte
    axes.plot([low, knee, high], [low * read / 1e3, knee * read / 1e3, min(product, high * read / 1e3)], color=ROOF, lw=1.8)
    place = {"textcoords": "offset points", "fontsize": 8.5, "color": ROOF}
    axes.annotate(
        f"{kind.upper()} product {significant(product)} TFLOP/s", (high, product), xytext=(-3, 4), ha="right", **place
    )
    bottom = axes.get_ylim()[0]
    start = max(low, bottom * 1e3 / read)
    middle = (start * knee) ** 0.5
    beside = {"ha": "right", "va": "bottom"} if middle / low > 4 else {"ha": "left", "va": "bottom"}
    shift = (-5, 3) if beside["ha"] == "right" else (3, 16)
    axes.annotate(f"read {significant(read)} GB/s", (middle, middle * read / 1e3), xytext=shift, **beside, **place)


def _token_labels(axes, rows: list[dict]) -> None:
    """The number of tokens under the lowest point of each column; left out where columns lie too close."""
    last_x = float("-inf")
    for tokens in sorted({row["tokens"] for row in rows}):
        lowest = min((row for row in rows if row["tokens"] == tokens), key=lambda row: row["tflops"])
        point = lowest["flops"] / lowest["weight_bytes"], lowest["tflops"]
        x = axes.transData.transform(point)[0]
        if x - last_x > 5 + 13 * len(str(tokens)):
            look = {"ha": "center", "va": "top", "fontsize": 8, "color": style.MUTED}
            axes.annotate(str(tokens), point, xytext=(0, -6), textcoords="offset points", **look)
            last_x = x


def _latency(rows: list[dict]) -> bytes:
    from matplotlib.lines import Line2D

    limit = Line2D([], [], color=ROOF, lw=1.8, label="limit: bytes or operations over this run's ceilings")
    figure, parts, known = _panels(_latency_title(rows), rows, [limit])
    ticks = sorted({row["tokens"] for row in rows})
    times = [row[name] for row in rows for name in ("us_median", "limit_us")]
    for axes, own in parts:
        _log_axes(axes, "µs a layer")
        axes.set_xlim(ticks[0] / 1.5, ticks[-1] * 1.5)
        axes.set_ylim(min(times) / 1.6, max(times) * 1.6)
        points = sorted({(row["tokens"], row["limit_us"]) for row in own})
        axes.plot(*zip(*points, strict=True), color=ROOF, lw=1.8, zorder=2)
        for name, look in known.items():
            line = [row for row in own if row["kernel"] == name]
            if line:
                x, y, spread = zip(*((row["tokens"], row["us_median"], row["us_iqr"] / 2) for row in line), strict=True)
                axes.errorbar(x, y, yerr=spread, capsize=2.5, elinewidth=1, zorder=3, **look.line)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        if len(ticks) > 10:
            axes.tick_params(axis="x", labelsize=8.5)
    parts[-1][0].set_xlabel("tokens; points: median, bars: distance of the quartiles")
    return png(figure)


def _log_axes(axes, y_label: str) -> None:
    axes.set(xscale="log", yscale="log", ylabel=y_label)
    axes.grid(visible=True, which="major")
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _place: f"{value:g}")


def _legend(figure, known: dict[str, Look], extra: list) -> None:
    """Under the lowest panel, two columns."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, **look.line) for name, look in known.items()] + extra
    place = {"loc": "lower left", "bbox_to_anchor": (0.02, 0.0)}
    figure.legend(handles=handles, **place, ncols=2, fontsize=8.5, handlelength=2.6, labelspacing=0.35)


def _roofline_title(rows: list[dict]) -> str:
    if all(row["is_reference"] for row in rows):
        return "Roofline of the reference: not FP4's speed"
    best = min((row for row in rows if not row["is_reference"]), key=lambda row: row["ratio_to_limit"])
    share = best[f"share_of_{best['limit_bound_by']}_ceiling"]
    place = f"{share:.0%} of the {best['limit_bound_by']} ceiling at {best['tokens']} tokens, {best['format']}"
    return f"{best['kernel']} comes closest to the roof: {place.replace(' x ', ' × ')}"


def _latency_title(rows: list[dict]) -> str:
    if all(row["is_reference"] for row in rows):
        return "Time a layer of the reference: not FP4's speed"
    name = rows[0]["format"]
    own = [row for row in rows if row["format"] == name]
    counts = sorted({row["tokens"] for row in own})
    fastest = [min((r for r in own if r["tokens"] == t), key=lambda row: row["us_median"])["kernel"] for t in counts]
    kernel = max(dict.fromkeys(fastest), key=fastest.count)
    among = f"{fastest.count(kernel)} of {len(counts)} token counts in {name.replace(' x ', ' × ')}"
    return f"{kernel} is the fastest at {among}"
