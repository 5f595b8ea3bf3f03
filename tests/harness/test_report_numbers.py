"""Text of figures: digits, units, signs, ratios."""

import pytest

from harness.report.numbers import (
    bytes_text,
    change_decimals,
    count,
    quantity,
    signed,
    significant,
    times,
    times_range,
)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        pytest.param(0, 3, "0", id="zero"),
        pytest.param(8, 3, "8.00", id="small-whole-number-as-a-measurement"),
        pytest.param(411.6, 3, "412", id="hundreds"),
        pytest.param(99.96, 3, "100", id="rounds-up-into-the-next-decade"),
        pytest.param(65536, 3, "65\u202f536", id="counts-keep-every-digit"),
        pytest.param(1234.5, 3, "1\u202f234", id="never-fewer-than-the-digits-before-the-point"),
        pytest.param(18.4213, 4, "18.42", id="four-digits"),
        pytest.param(0.0123456, 3, "0.0123", id="below-one"),
        pytest.param(-0.5, 3, "\u22120.500", id="minus-sign"),
        pytest.param(2.5e-7, 3, "2.50e\u221207", id="exponent-when-tiny"),
    ],
)
def test_significant(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        pytest.param(320, "320 B", id="bytes"),
        pytest.param(7864320, "7.86 MB", id="decimal-not-binary"),
        pytest.param(25.4e9, "25.4 GB", id="giga"),
    ],
)
def test_bytes(num_bytes, text):
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        pytest.param(411.6, "tokens/s", "412 tokens/s", id="rate"),
        pytest.param(18.42, "1", "18.4", id="dimensionless-prints-no-unit"),
        pytest.param(95.8, "%", "95.8 %", id="percent"),
        pytest.param(2211840, "bytes", "2.21 MB", id="bytes-take-a-prefix"),
    ],
)
def test_quantity(value, unit, text):
    assert quantity(value, unit) == text


def test_signed_shows_the_sign_but_no_negative_zero():
    assert [signed(x, 1) for x in (1.31, -0.24, -0.04)] == ["+1.3", "\u22120.2", "0.0"]


@pytest.mark.parametrize(
    ("value", "low", "high", "decimals"),
    [
        pytest.param(1.31, 1.11, 1.51, 1, id="wide-interval-of-a-large-change"),
        pytest.param(0.08, -0.12, 0.28, 2, id="small-change"),
        pytest.param(1.31, 1.29, 1.33, 2, id="narrow-interval-needs-digits"),
        pytest.param(2.9, None, None, 1, id="no-interval"),
    ],
)
def test_change_decimals(value, low, high, decimals):
    assert change_decimals(value, low, high) == decimals


def test_ratios_and_counts():
    assert times(7864320 / 2211840) == "3.56×"
    assert times_range([1.29, 1.2899]) == "1.29×"
    assert times_range([1.9, 1.2]) == "1.20–1.90×"
    assert (count(1, "repeat"), count(3, "repeat")) == ("1 repeat", "3 repeats")
