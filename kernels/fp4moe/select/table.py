"""The implementations that exist, in order of preference within an operation.

A row is data: what it computes, which formats it takes, what it asks of the device, and where its function is
("module:object", imported only when it is called). A row is added in the change that adds its code, never
before. Nothing here decides; see choose.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fp4moe.select.conditions import AnyDevice, Condition

OPS = ("route", "gate_up", "down")
REFERENCE = "reference"

# Keys of formats.WEIGHT_FORMATS and ACTIVATION_FORMATS, repeated so that this needs no torch (tested equal).
ALL_WEIGHTS = ("bf16", "fp8", "nvfp4", "mxfp4", "int4", "ternary")
ALL_ACTIVATIONS = ("fp32", "bf16", "fp8", "nvfp4", "mxfp4")


@dataclass(frozen=True, slots=True)
class Implementation:
    """One row. `capabilities`: conditions that must all hold. `max_tokens`: most tokens a call may have."""

    op: str
    name: str
    weight_formats: tuple[str, ...]
    activation_formats: tuple[str, ...]
    capabilities: tuple[Condition, ...]
    target: str
    note: str = ""
    max_tokens: int | None = None

    @property
    def is_reference(self) -> bool:
        """Plain torch: right everywhere, fast nowhere. Its speed is not the format's speed."""
        return self.name == REFERENCE

    def load(self) -> Any:
        """Import and return the function that `target` names."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


IMPLEMENTATIONS: tuple[Implementation, ...] = tuple(
    Implementation(
        op=op,
        name=REFERENCE,
        weight_formats=ALL_WEIGHTS,
        activation_formats=ALL_ACTIVATIONS,
        capabilities=(AnyDevice(),),
        target=f"fp4moe.reference:{op}",
        note="plain torch in float32, the definition of right; slow",
    )
    for op in OPS
)
