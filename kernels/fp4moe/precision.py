"""Weight format x quantizer x activation format: the precision of a run.

In: names from formats.WEIGHT_FORMATS and ACTIVATION_FORMATS. Out: a checked triple with an id for file names
("nvfp4-search-a16") and a label for tables ("NVFP4 x BF16 (search)"). Converts nothing.

The id's last part is a32 (fp32, checks only), a16 (bf16), a8 (fp8), a4 (the weight's own 4-bit family) or,
where the families differ, a4-nvfp4 or a4-mxfp4. Weights with the method "none" carry none in id and label:
"bf16-a16".
"""

from dataclasses import dataclass

from fp4moe.errors import FormatError
from fp4moe.formats import (
    ACTIVATION_FORMATS,
    IMPORTED,
    WEIGHT_FORMATS,
    WeightFormat,
    activation_format,
    weight_format,
)


@dataclass(frozen=True, slots=True)
class Precision:
    """`method` None is the weight format's default. FormatError for what the tables lack."""

    weights: str = "nvfp4"
    method: str | None = None
    activations: str = "bf16"

    def __post_init__(self) -> None:
        weights = weight_format(self.weights)
        activation_format(self.activations)
        if self.method is None:
            object.__setattr__(self, "method", weights.default_method)
        if self.method not in _methods(weights):
            raise FormatError(
                f"precision: method of {self.weights} must be one of {', '.join(_methods(weights))} "
                f"(got {self.method!r}); leave it out for {weights.default_method}"
            )

    @property
    def id(self) -> str:
        """Stable name, e.g. "nvfp4-search-a16"; `parse_precision` reads it back."""
        activations = activation_format(self.activations)
        parts = [self.weights] + [self.method] * (self.method != "none") + [f"a{activations.bits}"]
        if activations.bits == 4 and self.activations != self.weights:
            parts.append(self.activations)
        return "-".join(parts)

    @property
    def label(self) -> str:
        """Name for people, e.g. "NVFP4 x BF16 (search)"."""
        names = f"{weight_format(self.weights).label} x {activation_format(self.activations).label}"
        return names if self.method == "none" else f"{names} ({self.method.replace('four_six', '4/6')})"


def _methods(weights: WeightFormat) -> tuple[str, ...]:
    """The format's quantizers, and "imported" for weights that another tool quantized."""
    return weights.methods if weights.default_method == "none" else (*weights.methods, IMPORTED)


def all_precisions() -> tuple[Precision, ...]:
    """Every precision that the tables allow, in table order."""
    return tuple(
        Precision(weights, method, activations)
        for weights, fmt in WEIGHT_FORMATS.items()
        for method in _methods(fmt)
        for activations in ACTIVATION_FORMATS
    )


def parse_precision(text: str) -> Precision:
    """The Precision whose id is `text`; FormatError with an example otherwise."""
    for precision in all_precisions():
        if precision.id == text:
            return precision
    raise FormatError(
        f"precision {text!r}: unknown; write WEIGHTS-METHOD-aBITS, such as nvfp4-search-a16, mxfp4-search-a4 "
        f"or bf16-a16 (weights: {', '.join(WEIGHT_FORMATS)}; activations: {', '.join(ACTIVATION_FORMATS)})"
    )
