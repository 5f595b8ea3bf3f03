"""Names of precisions that a scenario may ask for: weight format, quantization method, activation format.

In: the short form (`nvfp4`) or the long one (`{weights: nvfp4, method: search, activations: fp8}`).
Out: `Precision`, with the id that names it in cells and the label printed in tables.
The tables repeat the names in `fp4moe.formats` so that reading a scenario needs no torch;
tests/harness/test_precisions.py holds the two against each other.
"""

from dataclasses import dataclass

METHODS = {
    "bf16": ("none",),
    "fp8": ("absmax",),
    "nvfp4": ("search", "four_six", "absmax"),
    "mxfp4": ("search", "absmax"),
    "int4": ("search", "absmax"),
    "ternary": ("search", "absmax"),
}
"""Weight format -> its quantization methods; the first is the default."""

ACTIVATIONS = ("bf16", "fp8", "nvfp4", "mxfp4", "fp32")
"""Activation formats at the inputs of the expert products; bf16 is the default, fp32 is for checks."""

_LABELS = {
    "bf16": "BF16",
    "fp8": "FP8",
    "nvfp4": "NVFP4",
    "mxfp4": "MXFP4",
    "int4": "INT4",
    "ternary": "ternary",
    "fp32": "FP32",
}
_ACTIVATION_BITS = {"bf16": "a16", "fp8": "a8", "fp32": "a32"}


@dataclass(frozen=True, slots=True)
class Precision:
    """Weight format, method and activation format of the expert products."""

    weights: str
    method: str
    activations: str

    @property
    def id(self) -> str:
        """Short name used in cell ids, `nvfp4-search-a16`."""
        activations = _ACTIVATION_BITS.get(self.activations, f"a4-{self.activations}")
        if self.activations == self.weights:
            activations = _ACTIVATION_BITS.get(self.activations, "a4")
        parts = [self.weights] if self.method == "none" else [self.weights, self.method]
        return "-".join([*parts, activations])

    @property
    def label(self) -> str:
        """What tables print, `NVFP4 x BF16 (search)`: weight format x activation format (method)."""
        label = f"{_LABELS[self.weights]} x {_LABELS[self.activations]}"
        return label if self.method == "none" else f"{label} ({self.method.replace('four_six', '4/6')})"

    @property
    def is_baseline(self) -> bool:
        """Whether this is the BF16 x BF16 that quality is held against."""
        return self.weights == "bf16" and self.activations == "bf16"
