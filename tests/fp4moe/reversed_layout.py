"""A layout of its own for tests of packing on a CPU: the experts in reverse order, with a byte of padding an expert.

In: stored rows. Out: `ReversedExperts`, and two implementations on it that compute what the reference does and note the
tokens of each call in `calls`.
"""

from dataclasses import dataclass

import torch

from fp4moe import reference
from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor, RowExperts

PADDING_BYTES = 1
calls: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True)
class ReversedExperts:
    """`layout` and `tensors()` are what the runtime asks for."""

    gate_up: QuantizedTensor
    down: QuantizedTensor
    padding: torch.Tensor
    layout: str = "reversed"

    def tensors(self) -> dict[str, torch.Tensor]:
        return RowExperts(self.gate_up, self.down).tensors() | {"padding": self.padding}


def pack(gate_up: QuantizedTensor, down: QuantizedTensor) -> ReversedExperts:
    order = torch.arange(down.shape[0] - 1, -1, -1)
    return ReversedExperts(gate_up[order], down[order], torch.zeros(down.shape[0] * PADDING_BYTES, dtype=torch.uint8))


def refuse(gate_up: QuantizedTensor, down: QuantizedTensor) -> ReversedExperts:
    raise FormatError("reversed: needs one tensor scale an expert")


def few(x_TD, packed, routing, activations):
    return _run("few", x_TD, packed, routing, activations)


def many(x_TD, packed, routing, activations):
    return _run("many", x_TD, packed, routing, activations)


def _run(name, x_TD, packed, routing, activations):
    calls.append((name, x_TD.shape[0]))
    order = torch.arange(packed.down.shape[0] - 1, -1, -1)
    return reference.experts(x_TD, RowExperts(packed.gate_up[order], packed.down[order]), routing, activations)
