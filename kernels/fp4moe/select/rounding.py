"""What implementations round beyond the activation format, and how large the error of each rounding is.

A row of the table names what it rounds; runtime/verify.py turns the names into a bound for its check. An implementation
whose error is larger than its named roundings explain is wrong, not unlucky.

Unit roundoff is half the distance of neighbors over their value: BF16 has 8 significant bits, 2^-8; E4M3 has 4, 2^-4. FP8
tensor cores of Hopper keep about 14 bits of a sum (DeepSeek-V3 technical report, section 3.3.2): of 128 k, four truncations
by 2^-13, together 2^-11; of up to 16384 k
one for each 32, of partial sums that are two thirds of the largest on average, half of it dropped: K / 96 * 2^-13, 2^-5.6
(measured on an H100: 2e-3 of the result for 4096 k, 3e-3 for 14336).
"""

from __future__ import annotations

from dataclasses import dataclass

BF16_ROUNDOFF = 2.0**-8
E4M3_ROUNDOFF = 2.0**-4
FP8_SUMS_ROUNDOFF = 2.0**-11
FP8_LONG_SUMS_ROUNDOFF = 16384 / 96 * 2.0**-13


@dataclass(frozen=True, slots=True)
class Rounding:
    """`stage`: "x" or "h", before the activation format is applied to it; "w", in every term or sum of both products; "y",
    the result; "weights", of the weights before everything, which a check applies to its own
    (Implementation.rounds_weights). formats: the only (weights, activations) that it happens in; None for all of the row's.
    """

    stage: str
    roundoff: float
    meaning: str
    formats: tuple[str, str] | None = None


ROUNDINGS: dict[str, Rounding] = {
    "x_bf16": Rounding("x", BF16_ROUNDOFF, "x to BF16 before it is rounded to the activation format"),
    "h_bf16": Rounding("h", BF16_ROUNDOFF, "h to BF16 between the two products"),
    "w_bf16": Rounding("w", BF16_ROUNDOFF, "weights to BF16 once their scales are applied"),
    "w_e4m3": Rounding("weights", E4M3_ROUNDOFF, "weights to E4M3 once their block scales are applied"),
    "fp8_sums": Rounding("w", FP8_SUMS_ROUNDOFF, "sums of FP8 tensor cores, to float32 every 128 k", ("fp8", "fp8")),
    "fp8_long_sums": Rounding("w", FP8_LONG_SUMS_ROUNDOFF, "sums of FP8 tensor cores, over at most 16384 k"),
    "slots_bf16": Rounding("y", BF16_ROUNDOFF, "each expert's result to BF16 before the weighted sum"),
    "y_bf16": Rounding("y", BF16_ROUNDOFF, "the result to BF16"),
}


def roundoff_of(names: tuple[str, ...], stage: str, formats: tuple[str, str]) -> float:
    """The roundoffs of one stage under (weights, activations), added up."""
    roundings = [ROUNDINGS[name] for name in names]
    return sum(r.roundoff for r in roundings if r.stage == stage and r.formats in (None, formats))
