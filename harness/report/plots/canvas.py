"""Figures laid out in inches, so that no two texts meet, and their PNG bytes.

In: a title, panel heights in inches. Out: a matplotlib Figure (Agg, no pyplot) with its axes; PNG bytes.
Matplotlib is imported inside the functions. What the panels show is not known here.
"""

import io
import textwrap

from harness.report.plots.style import INK, MUTED, keep_together

WIDTH_IN, DPI = 6.4, 150
MARGIN_IN, NOTE_GAP_IN = 0.1, 0.06
TITLE_LINE_IN, NOTE_LINE_IN, PANEL_TITLE_IN = 0.235, 0.185, 0.30
TITLE_CHARS, NOTE_CHARS = 54, 80


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

    lines, notes = textwrap.wrap(keep_together(title), TITLE_CHARS), textwrap.wrap(note, NOTE_CHARS)
    note_top_in = MARGIN_IN + len(lines) * TITLE_LINE_IN + NOTE_GAP_IN
    head_in = note_top_in + len(notes) * NOTE_LINE_IN
    body_in = sum(height + PANEL_TITLE_IN + gap_in for height in heights_in) - gap_in
    total_in = head_in + body_in + bottom_in
    figure = Figure(figsize=(WIDTH_IN, total_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, lines, MARGIN_IN, fontsize=12.5, fontweight="bold")
    _write(figure, notes, note_top_in, fontsize=9.5, color=MUTED)
    axes, y_in, width = [], total_in - head_in, 1 - (left_in + right_in) / WIDTH_IN
    for height in heights_in:
        y_in -= PANEL_TITLE_IN + height
        axes.append(figure.add_axes((left_in / WIDTH_IN, y_in / total_in, width, height / total_in)))
        y_in -= gap_in
    return figure, axes


def _write(figure, lines: list[str], top_in: float, **look) -> None:
    height_in = figure.get_size_inches()[1]
    place = MARGIN_IN / WIDTH_IN, 1 - top_in / height_in
    figure.text(*place, "\n".join(lines), va="top", linespacing=1.25, **look)


def panel_title(axes, text: str) -> None:
    """A small bold heading at the left edge of the axes."""
    axes.set_title(text, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=7)


def png(figure) -> bytes:
    """The figure as a PNG with a palette of its commonest colors, exact, so that fixed colors stay fixed.

    A third of the size of true color. What is left over is antialiasing, which takes the nearest color.
    """
    import numpy as np
    from PIL import Image

    pixels = _pixels(figure).astype(np.uint32)
    packed = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    colors, index, counts = np.unique(packed, return_inverse=True, return_counts=True)
    rgb = np.stack([colors >> 16, (colors >> 8) & 255, colors & 255], axis=1).astype(np.int32)
    palette = rgb[np.argsort(-counts)[:256]]
    distance = ((rgb[:, None, :] - palette[None, :, :]) ** 2).sum(axis=2)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    image = Image.fromarray(nearest[index].reshape(packed.shape), mode="P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    return _encode(image)


def true_color_png(figure) -> bytes:
    """The figure as a PNG in true color, for heat maps: a color bar alone has more colors than a palette."""
    from PIL import Image

    return _encode(Image.fromarray(_pixels(figure)))


def _pixels(figure):
    import numpy as np

    figure.canvas.draw()
    return np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])


def _encode(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", dpi=(DPI, DPI))
    return buffer.getvalue()
