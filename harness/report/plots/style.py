"""One look for all plots: fixed colors by weight format, text sizes, and what a plot is.

In: a weight format, a label. Out: its color, a Plot or the reason that there is none.
Colors: Okabe and Ito (2008), told apart by color-blind readers; BF16 is a neutral gray in every plot.
Importing this module imports no matplotlib.
"""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass

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
    "xtick.major.pad": 6.5,
    "ytick.major.pad": 5,
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


def keep_together(text: str) -> str:
    """No line break inside 'NVFP4 × BF16' or 'n = 3', or before a percent sign."""
    return text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def slug(*parts: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part)
