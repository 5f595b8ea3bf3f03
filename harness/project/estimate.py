"""A projected number: it is never a bare float, so that it cannot be mistaken for a measurement.

In: the ends of a time, whether the architecture was ever measured. Out: Estimate, and its text and record.
On a measured architecture an estimate has a value and the error of leaving a GPU out; elsewhere it has a range and no value.
"""

from dataclasses import dataclass

from harness.project.step import Span
from harness.report.numbers import significant

PROJECTED = "projected"
UNVALIDATED = "projected, unvalidated"
COLOR = "#b35900"
"""Of every projected number and bar, in reports, plots and on terminals (there: `dark_orange3`)."""
RICH_STYLE = "italic dark_orange3"


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` is None on an architecture that was never measured: only the range is meant."""

    low: float
    value: float | None
    high: float
    unit: str

    @property
    def label(self) -> str:
        """The mark that stands wherever the number is printed."""
        return UNVALIDATED if self.value is None else PROJECTED

    @property
    def range_text(self) -> str:
        return f"{significant(self.low)} to {significant(self.high)}"

    @property
    def text(self) -> str:
        """`~1 850 tokens/s` or `1 200 to 2 900 tokens/s`; the tilde is part of the mark."""
        figure = self.range_text if self.value is None else f"~{significant(self.value)}"
        return f"{figure} {self.unit}".strip()

    def to_json(self) -> dict:
        return {"kind": self.label, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit}


def of_time(span: Span, unit: str, *, is_validated: bool, error_pct: float, scale: float = 1.0) -> Estimate:
    """A time in milliseconds times `scale`."""
    if not is_validated:
        return Estimate(span.low_ms * scale, None, span.high_ms * scale, unit)
    factor = 1 + error_pct / 100
    return Estimate(span.ms * scale / factor, span.ms * scale, span.ms * scale * factor, unit)


def of_rate(amount: float, span: Span, unit: str, *, is_validated: bool, error_pct: float) -> Estimate:
    """`amount` a `span`, a second."""
    if not is_validated:
        return Estimate(amount / span.high_ms * 1e3, None, amount / span.low_ms * 1e3, unit)
    value, factor = amount / span.ms * 1e3, 1 + error_pct / 100
    return Estimate(value / factor, value, value * factor, unit)
