"""Weight format x activation format of a bench: `nvfp4-a16`, in the words of harness/precisions.py.

In: text. Out: `BenchFormat`. Codes are random, so the quantization method plays no part in the speed: `nvfp4-search-a16`
is taken too, and names the method that pocket-mixtral is quantized with where its perplexity is measured.
"""

from dataclasses import dataclass

from harness.kernel_bench.errors import not_allowed
from harness.precisions import METHODS, Precision

WEIGHTS = ("bf16", "fp8", "nvfp4", "mxfp4")
ACTIVATIONS = ("bf16", "fp8", "nvfp4", "mxfp4")
BITS_A_WEIGHT = {"bf16": 16.0, "fp8": 8.0, "nvfp4": 4.5, "mxfp4": 4.25}
"""Codes and block scales, as fp4moe.formats counts them; the scale of a row or of a tensor is left out."""
PRODUCT_OF = {"bf16": "bf16", "fp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4"}
"""Activation format -> the kind of product that the tensor cores could do with it."""


@dataclass(frozen=True, slots=True)
class BenchFormat:
    """A pair of formats; `precision` carries the method for the perplexity."""

    precision: Precision

    @property
    def weights(self) -> str:
        return self.precision.weights

    @property
    def activations(self) -> str:
        return self.precision.activations

    @property
    def id(self) -> str:
        """`nvfp4-a16`: the precision's id without its method."""
        return Precision(self.weights, "none", self.activations).id

    @property
    def label(self) -> str:
        """`NVFP4 x BF16`."""
        return Precision(self.weights, "none", self.activations).label

    def bytes_an_expert(self, expert_weights: int) -> float:
        """Bytes of codes and block scales that one expert's products must read."""
        return expert_weights * BITS_A_WEIGHT[self.weights] / 8


def all_formats() -> dict[str, BenchFormat]:
    """Short id -> format, with the default method."""
    known = {}
    for weights in WEIGHTS:
        for activations in ACTIVATIONS:
            made = BenchFormat(Precision(weights, METHODS[weights][0], activations))
            known[made.id] = made
    return known


def parse_format(text: str) -> BenchFormat:
    """The format of `nvfp4-a16` or `nvfp4-absmax-a16`; UsageError listing the short ids."""
    known = all_formats()
    if text in known:
        return known[text]
    for made in known.values():
        for method in METHODS[made.weights]:
            precision = Precision(made.weights, method, made.activations)
            if precision.id == text:
                return BenchFormat(precision)
    raise not_allowed("--precision", text, known)
