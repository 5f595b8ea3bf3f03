"""Bars across GPUs: solid where measured, hatched orange where projected, a bare range where never validated.

In: AcrossRow data. Out: one Plot of output tokens/s a (model, workload). Bars start at zero. A place with neither record nor
projection is a dash with its reason.
"""

import textwrap
from collections.abc import Iterator, Sequence

from harness.project.estimate import COLOR, Estimate
from harness.report.across import AcrossRow, Place, ask_of
from harness.report.cells import format_pair
from harness.report.numbers import DASH, significant
from harness.report.plots import canvas, style

METRIC = "output_throughput"
ROW_IN, HEADING_IN, MARGIN_IN, BAR = 0.33, 0.32, 0.05, 0.6
REASON_CHARS = 62


def draw(rows: Sequence[AcrossRow]) -> Iterator[style.Plot]:
    """A plot a (model, workload), GPUs from top to bottom."""
    groups: dict[tuple[str, str], list[AcrossRow]] = {}
    for row in rows:
        groups.setdefault((row.wanted.model, row.wanted.workload["name"]), []).append(row)
    with style.context():
        for (model, workload), members in groups.items():
            yield _plot(model, workload, members)


def _plot(model: str, workload: str, rows: list[AcrossRow]) -> style.Plot:
    num_gpus = len(rows[0].places)
    height_in = num_gpus * (HEADING_IN + ROW_IN * len(rows)) + 2 * MARGIN_IN
    title = f"{model}, {workload}: {_counted(rows)}"
    note = f"Hatched orange: projected. A bar from low to high alone: projected, unvalidated. {_asked(rows)}"
    figure, (axis,) = canvas.panels(title, [height_in], note=note)
    limit = 1.22 * max((_high(place) for row in rows for place in row.places), default=1.0) or 1.0
    y_in, ticks, labels = MARGIN_IN, [], []
    for column in range(num_gpus):
        _heading(axis, y_in, rows[0].places[column].gpu)
        y_in += HEADING_IN
        for row in rows:
            middle_in = y_in + ROW_IN / 2
            _bar(axis, row.places[column], middle_in, row.wanted.precision["weights"], limit)
            ticks.append(middle_in)
            labels.append(format_pair(row.wanted.precision["weights"], row.wanted.precision["activations"]))
            y_in += ROW_IN
    axis.set(xlim=(0, limit), ylim=(height_in, 0), xlabel="output tokens/s")
    axis.set_yticks(ticks, labels, fontsize=9)
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=5)
    caption = (
        "Output tokens/s = tokens out / wall time, prefill included. Solid: measured, median. Hatched: projected from measured "
        "layers, whiskers: nine in ten errors of leaving a GPU out. Range: from no overlap to the limit, never validated."
    )
    words = "; ".join(_words(row, place) for row in rows for place in row.places)
    alt = f"Bars of output tokens/s of {model} at {workload} by GPU. {words}"
    return style.Plot(style.slug("across", model, workload), title, caption, alt, canvas.png(figure))


def _counted(rows: list[AcrossRow]) -> str:
    """'2 measured, 9 projected'."""
    places = [place for row in rows for place in row.places]
    num_measured = sum(place.measured is not None for place in places)
    num_projected = sum(place.projection is not None for place in places)
    return f"{num_measured or 'none'} measured, {num_projected} projected"


def _asked(rows: list[AcrossRow]) -> str:
    ask = ask_of(rows[0].wanted.workload)
    return "" if ask is None else f"{ask.prompt} tokens in, {ask.output} out."


def _heading(axis, y_in: float, text: str) -> None:
    look = {"va": "center", "fontsize": 9.5, "color": style.MUTED, "fontweight": "bold"}
    cover = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axis.text(0.012, y_in + HEADING_IN / 2, text, transform=axis.get_yaxis_transform(), bbox=cover, **look)


def _bar(axis, place: Place, y_in: float, weights: str, limit: float) -> None:
    figure = place.figure(METRIC)
    at = {"textcoords": "offset points", "va": "center", "fontsize": 8.5}
    if isinstance(figure, Estimate):
        hatched = {"facecolor": "white", "edgecolor": COLOR, "hatch": "////", "linewidth": 1.1}
        start = figure.low if figure.value is None else 0.0
        end = figure.high if figure.value is None else figure.value
        axis.barh(y_in, end - start, BAR * ROW_IN, left=start, **hatched)
        if figure.value is not None:
            ends = [[figure.value - figure.low], [figure.high - figure.value]]
            axis.errorbar(figure.value, y_in, xerr=ends, color=COLOR, capsize=2.5, linewidth=1.1)
        text = figure.text.replace(f" {figure.unit}", "")
        axis.annotate(text, (figure.high, y_in), (4, 0), color=COLOR, style="italic", **at)
    elif figure is not None and figure.median is not None:
        axis.barh(y_in, figure.median, BAR * ROW_IN, color=style.color(weights))
        axis.annotate(f"{significant(figure.median)} measured", (figure.high, y_in), (4, 0), **at)
    else:
        reason = textwrap.shorten(f"{DASH} {place.reason}", REASON_CHARS, placeholder=" …")
        axis.text(0.012 * limit, y_in, reason, va="center", fontsize=8, color=style.MUTED)


def _high(place: Place) -> float:
    figure = place.figure(METRIC)
    return (figure.high if figure is not None else None) or 0.0


def _words(row: AcrossRow, place: Place) -> str:
    figure = place.figure(METRIC)
    name = f"{place.gpu}, {row.wanted.precision['label']}"
    if isinstance(figure, Estimate):
        return f"{name}: {figure.text} ({figure.label})"
    if figure is not None and figure.median is not None:
        return f"{name}: {significant(figure.median)} tokens/s (measured)"
    return f"{name}: none ({place.reason})"
