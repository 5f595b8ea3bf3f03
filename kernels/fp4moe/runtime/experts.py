"""Expert matrices of a source in the runtime's form, in the precision that was asked for.

In: w1 (gate), w3 (up), w2 (down) of one expert, BF16 or already quantized. Out: gate above up [2F, D] and
down [D, F]. BF16 is quantized here, gate and up together, so that they share one tensor scale (amax over
both); quantized matrices are joined as they are. Quantized weights are never requantized.
"""

from __future__ import annotations

import torch

from fp4moe.checkpoint import stack_gate_up
from fp4moe.errors import CheckpointError
from fp4moe.layouts import QuantizedTensor
from fp4moe.precision import Precision
from fp4moe.quantize import quantize_weight


def prepare_gate_up(gate: QuantizedTensor, up: QuantizedTensor, precision: Precision, *, name: str) -> QuantizedTensor:
    """[F, D] and [F, D] -> [2F, D] in `precision.weights`; `name` is how errors call the pair.

    Raises CheckpointError when they are quantized in another format than asked for.
    """
    if gate.format == up.format == "bf16":
        return quantize_weight(torch.cat([gate.codes, up.codes]), precision.weights, precision.method, name=name)
    for part in (gate, up):
        _check_stored(part, precision, name)
    return stack_gate_up(gate, up)


def prepare_down(down: QuantizedTensor, precision: Precision, *, name: str) -> QuantizedTensor:
    """[D, F] in `precision.weights`; raises as `prepare_gate_up` does."""
    if down.format == "bf16":
        return quantize_weight(down.codes, precision.weights, precision.method, name=name)
    _check_stored(down, precision, name)
    return down


def _check_stored(part: QuantizedTensor, precision: Precision, name: str) -> None:
    if part.format != precision.weights:
        raise CheckpointError(
            f"{name}: must be stored as bf16 or {precision.weights} for {precision.id} (got {part.format}); "
            "choose the stored format or start from the BF16 checkpoint, for requantizing loses twice"
        )
