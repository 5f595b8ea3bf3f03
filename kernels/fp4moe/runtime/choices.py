"""Which implementations a model runs on here: where selection meets a configuration and this machine.

In: config, precision, device. Out: a `ChoiceByTokens` for each operation. Looks at the device's name and capability and at
the tools that are here; reads no weights.
"""

from __future__ import annotations

import torch

from fp4moe.precision import Precision
from fp4moe.runtime.config import MixtralConfig
from fp4moe.select import Capability, ChoiceByTokens, Environment, MoeShape, choose_operations


def moe_shape(config: MixtralConfig) -> MoeShape:
    """The shape that selection asks for."""
    return MoeShape(config.hidden_size, config.intermediate_size, config.num_experts, config.top_k)


def choose_here(
    config: MixtralConfig, precision: Precision, device: str, *, allow_reference: bool = True, implementation: str | None = None
) -> tuple[ChoiceByTokens, ...]:
    """The choices on a device of this machine, "cpu" or "cuda:0"; SelectionError with every reason when nothing runs."""
    return choose_operations(
        precision.weights,
        precision.activations,
        Capability.of_device(device),
        shape=moe_shape(config),
        gpu=torch.cuda.get_device_name(device) if str(device).startswith("cuda") else None,
        environment=Environment.of_this_machine(),
        allow_reference=allow_reference,
        implementation=implementation,
    )
