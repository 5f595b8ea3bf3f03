"""Numbers to codes and back; one file a format, one signature for all.

quantize_weight, dequantize, quantize_activation and round_activation are what other modules use.
"""

from fp4moe.quantize.activations import quantize_activation, round_activation
from fp4moe.quantize.dequantize import dequantize, scale_values
from fp4moe.quantize.weights import check_finite, quantize_weight

__all__ = [
    "check_finite",
    "dequantize",
    "quantize_activation",
    "quantize_weight",
    "round_activation",
    "scale_values",
]
