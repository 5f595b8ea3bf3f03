"""The choice for every operation of a MoE layer on one device, attached or not.

In: formats, capability, shape, the GPU's name, tools. Out: a `ChoiceByTokens` for each of OPS, in that order. This is where
the tuned tables come in: they are of the experts, routing has none.
"""

from __future__ import annotations

from fp4moe.select.by_tokens import ChoiceByTokens, choose_by_tokens
from fp4moe.select.capability import Capability
from fp4moe.select.environment import Environment
from fp4moe.select.limits import MoeShape
from fp4moe.select.table import OPS
from fp4moe.select.tuned import find_tuned


def choose_operations(
    weights: str,
    activations: str,
    capability: Capability,
    *,
    shape: MoeShape,
    gpu: str | None,
    environment: Environment,
    allow_reference: bool = True,
    implementation: str | None = None,
) -> tuple[ChoiceByTokens, ...]:
    """`gpu`: its name as the driver or the tuned tables have it, None for a CPU. SelectionError as `choose_by_tokens`."""
    tuned = None if gpu is None else find_tuned(gpu, weights, activations, shape)
    return tuple(
        choose_by_tokens(
            op,
            weights,
            activations,
            capability,
            shape=shape,
            tuned=tuned if op == "experts" else None,
            allow_reference=allow_reference,
            environment=environment,
            implementation=implementation,
        )
        for op in OPS
    )
