"""Tables as data: entries, groups of rows, footnotes. HTML, Markdown and the terminal print the same ones.

In: Numbers and texts. Out: Table. A missing value is a dash that points at a footnote with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.report.cells import Number
from harness.report.numbers import DASH, grouped, quantity, split_quantity


@dataclass(frozen=True, slots=True)
class Entry:
    """One table cell: text, unit beside it, smaller second line, footnote number, tone for its style."""

    text: str
    unit: str = ""
    detail: str = ""
    footnote: int | None = None
    tone: str = ""  # "", "text", "muted", "head", "code", "reference", "projected", or a verdict state in lower case


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading; an empty label prints no heading."""

    label: str
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A captioned table. On a phone 'wide' scrolls and 'cards' stacks its rows; `folded` starts closed."""

    caption: str
    headers: tuple[str, ...]
    groups: tuple[Group, ...]
    footnotes: tuple[str, ...] = ()
    layout: str = "wide"
    folded: bool = False

    @property
    def num_rows(self) -> int:
        return sum(len(group.rows) for group in self.groups)


@dataclass(slots=True)
class Footnotes:
    """Numbers each distinct reason once."""

    texts: list[str] = field(default_factory=list)

    def number_of(self, reason: str) -> int:
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1

    def dash(self, reason: str | None) -> Entry:
        return Entry(DASH, footnote=self.number_of(reason or "no reason was recorded"), tone="muted")

    def entry(self, number: Number, detail: str | None = None) -> Entry:
        """A measured number with its spread and n, or a dash with its reason."""
        if number.median is None:
            return self.dash(number.reason)
        text, unit = split_quantity(number.median, number.unit)
        return Entry(text, unit, spread(number) if detail is None else detail)


def spread(number: Number) -> str:
    """'405–420, n = 3 × 8': min-max over repeats, repeats x samples a repeat."""
    size = f"n = {number.num_repeats}" + (f" × {grouped(number.num_samples)}" if number.num_samples > 1 else "")
    if not number.has_spread:
        return size
    return f"{range_text(number.low, number.high, number.unit)}, {size}"


def range_text(low: float, high: float, unit: str) -> str:
    """Min-max with one unit where both ends share it."""
    (low_text, low_unit), (high_text, high_unit) = split_quantity(low, unit), split_quantity(high, unit)
    if low_unit == high_unit:
        return f"{low_text}–{high_text}"
    return f"{quantity(low, unit)}–{quantity(high, unit)}"


def table(
    caption: str,
    headers: Sequence[str],
    groups: Sequence[Group],
    notes: Footnotes | None = None,
    *,
    layout: str = "wide",
    folded: bool = False,
) -> Table:
    """Build a Table, dropping groups without rows."""
    kept = tuple(group for group in groups if group.rows)
    return Table(caption, tuple(headers), kept, tuple(notes.texts) if notes else (), layout, folded)
