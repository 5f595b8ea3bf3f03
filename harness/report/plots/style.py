"""One look for all plots: fixed colors by weight format, figures laid out in inches so that no two texts meet.

In: a title, panel heights in inches. Out: a matplotlib Figure (Agg, no pyplot) with its axes, and PNG bytes.
Colors: Okabe and Ito (2008), told apart by color-blind readers; BF16 is a neutral gray in every plot.
Matplotlib is imported inside the functions: importing this module is light.
"""

import io
import re
import textwrap
from contextlib import AbstractContextManager
from dataclasses import dataclass

from harness.report.cells import MeasuredCell

COLORS = {
    "bf16": "#7f7f7f",
    "fp32": "#595959",
    "nvfp4": "#0072b2",
    "mxfp4": "#d55e00",
    "fp8": "#a6559d",
    "int4": "#009e73",
    "ternary": "#e69f00",
}
OTHER_COLOR = "#222222"
INK, MUTED, RULE = "#1b1f24", "#57606a", "#d8dde3"
WIDTH_IN, DPI = 6.4, 160
NUM_COLORS = 192
TITLE_LINE_IN, NOTE_LINE_IN, PANEL_TITLE_IN = 0.235, 0.185, 0.30
TITLE_CHARS, NOTE_CHARS = 54, 80
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 10.5,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.9,
    "axes.axisbelow": True,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot. `title` is the finding, `alt` says in words what the picture shows."""

    name: str  # file name without .png
    title: str
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A plot that the records do not allow, with the reason."""

    name: str
    reason: str


def context() -> AbstractContextManager:
    """Matplotlib settings for the duration of a `with`; changes nothing outside it."""
    import matplotlib

    return matplotlib.rc_context(RC)


def color(weights: str) -> str:
    return COLORS.get(weights, OTHER_COLOR)


def row_label(cell: MeasuredCell) -> str:
    """'NVFP4 × BF16' over its method; BF16 has none."""
    return cell.name if cell.method == "none" else f"{cell.name}\n{cell.method}"


def keep_together(text: str) -> str:
    """No line break inside 'NVFP4 × BF16' or before a percent sign."""
    return text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%")


def slug(*parts: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part)


def panels(
    title: str,
    heights_in: list[float],
    *,
    note: str = "",
    left_in: float = 1.45,
    right_in: float = 0.3,
    gap_in: float = 0.55,
    bottom_in: float = 0.6,
):
    """A figure with one axes a height, stacked under a left-aligned title and an optional note line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    title_text = textwrap.wrap(keep_together(title), TITLE_CHARS)
    note_text = textwrap.wrap(note, NOTE_CHARS)
    head_in = (
        0.14 + len(title_text) * TITLE_LINE_IN + (0.06 + len(note_text) * NOTE_LINE_IN if note_text else 0)
    )
    total_in = (
        head_in + sum(h + PANEL_TITLE_IN for h in heights_in) + gap_in * (len(heights_in) - 1) + bottom_in
    )
    figure = Figure(figsize=(WIDTH_IN, total_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        0.1 / WIDTH_IN,
        1 - 0.1 / total_in,
        "\n".join(title_text),
        va="top",
        fontsize=12.5,
        fontweight="bold",
        linespacing=1.25,
    )
    if note_text:
        y_in = 0.1 + len(title_text) * TITLE_LINE_IN + 0.06
        figure.text(
            0.1 / WIDTH_IN,
            1 - y_in / total_in,
            "\n".join(note_text),
            va="top",
            fontsize=9.5,
            color=MUTED,
            linespacing=1.25,
        )
    axes, y_in = [], total_in - head_in
    for height in heights_in:
        y_in -= PANEL_TITLE_IN + height
        axes.append(
            figure.add_axes(
                (left_in / WIDTH_IN, y_in / total_in, 1 - (left_in + right_in) / WIDTH_IN, height / total_in)
            )
        )
        y_in -= gap_in
    return figure, axes


def panel_title(axes, text: str) -> None:
    """A small bold heading at the left edge of the axes."""
    axes.set_title(text, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=7)


def png(figure) -> bytes:
    """The figure as a PNG with a palette: a third of the size of true color, and these figures have few colors."""
    from PIL import Image

    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    image = Image.frombuffer("RGBA", (width, height), figure.canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(NUM_COLORS, dither=Image.Dither.NONE).save(buffer, format="png", dpi=(DPI, DPI))
    return buffer.getvalue()
