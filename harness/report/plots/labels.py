"""Small labels beside points, moved until they meet neither each other nor a point.

In: axes with their final limits and scales, points in data coordinates, texts. Out: annotations. Sizes of texts are estimated
from their length, so that nothing has to be drawn first.
"""

from collections.abc import Sequence

SIZE_PT, CHAR_PT, LINE_PT, MARK_PT = 9.0, 6.0, 9.5, 3.5
"""Font size; the widest digit, a line and half a point's mark, in points (1/72 inch), for DejaVu Sans of that size."""
PLACES = tuple(
    (across, up)
    for far in (6, 11, 17)
    for across, up in ((0, far), (0, -far), (far, 0), (-far, 0), (far, far), (-far, far), (far, -far), (-far, -far))
)
"""Points across and up from the mark to the nearest edge of the text, in order of preference."""
Box = tuple[float, float, float, float]


def label_points(axis, labelled: Sequence[tuple[float, float, str, str]]) -> None:
    """`labelled`: (x, y, text, color)."""
    from matplotlib.patheffects import withStroke

    places = [_in_points(axis, x, y) for x, y, _, _ in labelled]
    taken = [_mark(x, y) for x, y in places]
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for (x, y, text, color), place in zip(labelled, places, strict=True):
        offset, box = min(
            ((offset, _box(place, offset, len(text))) for offset in PLACES),
            key=lambda found: sum(_meet(found[1], other) for other in taken),
        )
        taken.append(box)
        align = {"ha": _side(offset[0], "left", "right"), "va": _side(offset[1], "bottom", "top")}
        look = {"fontsize": SIZE_PT, "color": color, "path_effects": halo}
        axis.annotate(text, (x, y), xytext=offset, textcoords="offset points", **align, **look)


def _in_points(axis, x: float, y: float) -> tuple[float, float]:
    across, up = axis.transData.transform((x, y)) * 72 / axis.figure.dpi
    return float(across), float(up)


def _mark(x: float, y: float) -> Box:
    return (x - MARK_PT, y - MARK_PT, x + MARK_PT, y + MARK_PT)


def _box(place: tuple[float, float], offset: tuple[float, float], num_chars: int) -> Box:
    width = num_chars * CHAR_PT
    left = place[0] + offset[0] + {-1: -width, 0: -width / 2, 1: 0.0}[_sign(offset[0])]
    low = place[1] + offset[1] + {-1: -LINE_PT, 0: -LINE_PT / 2, 1: 0.0}[_sign(offset[1])]
    return (left, low, left + width, low + LINE_PT)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _side(offset: float, positive: str, negative: str) -> str:
    return {-1: negative, 0: "center", 1: positive}[_sign(offset)]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
