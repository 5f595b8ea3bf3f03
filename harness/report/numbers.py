"""Text of a figure: significant digits, decimal byte units, signs, ratios.

In: a float and its unit. Out: a string a person reads. Source: SI prefixes (1 MB = 10^6 bytes).
It knows nothing of records, and never turns "not measured" into a number: that is DASH with a reason.
"""

import math

DASH = "\u2014"
THIN = "\u202f"  # narrow no-break space: groups thousands
MINUS = "\u2212"
BYTE_STEPS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def grouped(value: float) -> str:
    """Whole number with its thousands set apart: 65536 -> '65 536'."""
    return f"{value:,.0f}".replace(",", THIN).replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits; never fewer than all digits before the point, no exponent down to 1e-4."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or float(value).is_integer() and abs(value) >= 10 ** (digits - 1):
        return grouped(value)
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4:
        return f"{rounded:.{digits - 1}e}".replace("-", MINUS)
    decimals = max(digits - 1 - exponent, 0)
    return grouped(value) if decimals == 0 else f"{value:.{decimals}f}".replace("-", MINUS)


def split_bytes(num_bytes: float) -> tuple[str, str]:
    """Bytes as (number, unit): 7864320 -> ('7.86', 'MB')."""
    for step, unit in BYTE_STEPS:
        if abs(num_bytes) >= step:
            return significant(num_bytes / step), unit
    return grouped(num_bytes), "B"


def bytes_text(num_bytes: float) -> str:
    return " ".join(split_bytes(num_bytes))


def split_quantity(value: float, unit: str) -> tuple[str, str]:
    """Any measured value as (number, unit to print)."""
    if unit in ("bytes", "byte", "B"):
        return split_bytes(value)
    if unit in ("%", "percent", "pct"):
        return significant(value), "%"
    if unit in ("", "1", "count", "ratio", "perplexity", "fraction"):
        return significant(value), ""
    return significant(value), unit


def quantity(value: float, unit: str) -> str:
    return " ".join(split_quantity(value, unit)).strip()


def signed(value: float, decimals: int) -> str:
    """A change with its sign: 1.3 -> '+1.3'."""
    text = f"{value:+.{decimals}f}".replace("-", MINUS)
    return text if float(f"{value:.{decimals}f}") else text[1:]


def change_decimals(value: float, low: float | None, high: float | None) -> int:
    """Digits after the point that a change in percent needs for its interval to be readable."""
    width = abs(high - low) if low is not None and high is not None else abs(value)
    return 1 if width >= 0.2 and abs(value) >= 1 else 2


def times(ratio: float) -> str:
    """A ratio: 3.56 -> '3.56×'."""
    return f"{significant(ratio)}×"


def times_range(ratios: list[float]) -> str:
    """The span of several ratios: '1.29×', '1.28–1.30×'."""
    low, high = times(min(ratios)), times(max(ratios))
    return low if low == high else f"{low[:-1]}–{high}"


def count(number: int, noun: str) -> str:
    """'1 repeat', '3 repeats'."""
    return f"{grouped(number)} {noun}" + ("" if number == 1 else "s")
