"""Who takes part: implementations of the selection table and peers, under one interface.

In: formats, names, shape, capability. Out: `Contender`s, and those that do not take part with their reasons. An
implementation runs through the function that selection would call; what it needs of the machine is asked there.

Shapes: T tokens, K experts a token, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backends import moe_layer
from harness.kernel_bench.errors import not_allowed
from harness.kernel_bench.formats import BenchFormat
from harness.kernel_bench.layers import Pack
from harness.kernel_bench.shapes import LayerShape

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Routed:
    """Expert ids and router weights on the device, and how many experts there are."""

    ids_TK: Tensor
    weights_TK: Tensor
    num_experts: int


@dataclass(frozen=True, slots=True)
class Contender:
    """One implementation or peer in one format. `pack()` -> the pack function, imported only then; `bind(packed,
    x_TD, routed)` -> a call that computes the layer.

    `refusal(tokens)`: why it does not take so many tokens, or None. `not_checked`: why its output cannot be held against
    the reference, None where it can. `row`: the row of the selection table, None for a peer.
    """

    name: str
    form: BenchFormat
    layout: str
    pack: Callable[[], Pack]
    bind: Callable[[Any, Tensor, Routed], Callable[[], Tensor]]
    refusal: Callable[[int], str | None]
    is_peer: bool = False
    is_capturable: bool = True
    not_checked: str | None = None
    note: str = ""
    row: Any = None

    @property
    def key(self) -> tuple[str, str]:
        """Where its packed copies lie, see layers.Layers."""
        return self.form.weights, self.layout

    @property
    def title(self) -> str:
        """`triton-grouped nvfp4-a16`."""
        return f"{self.name} {self.form.id}"

    @property
    def is_reference(self) -> bool:
        return self.name == REFERENCE

    @property
    def rounds_weights(self) -> str | None:
        """Names the function that gives the weights which it really multiplies; None where those are the stored ones."""
        return getattr(self.row, "rounds_weights", None)

    def rounded(self, rows: tuple) -> tuple:
        """gate_up and down as it multiplies them: what its arithmetic's reference is computed from."""
        return rows if self.rounds_weights is None else tuple(map(self.row.load_rounded(), rows))


@dataclass(frozen=True, slots=True)
class Absent:
    """Somebody who does not take part. `format_id` is None where the reason holds for all formats."""

    name: str
    format_id: str | None
    reason: str

    def to_json(self) -> dict:
        return {"name": self.name, "format": self.format_id, "reason": self.reason}


def implementations(
    forms: Sequence[BenchFormat], names: Sequence[str], shape: LayerShape, device: torch.device
) -> tuple[list[Contender], list[Absent]]:
    """Implementations that run here; without `names` all but the reference, which takes part where nothing else does."""
    known = list(dict.fromkeys(row.name for row in moe_layer.experts_rows()))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise not_allowed("--kernel", unknown[0], known)
    taking: list[Contender] = []
    absent: list[Absent] = []
    for form in forms:
        running = []
        for row, reason in moe_layer.explained(shape.sizes, form.weights, form.activations, device):
            if names and row.name not in names:
                continue
            if reason is None:
                running.append(row)
            else:
                absent.append(Absent(row.name, form.id, reason))
        fast = [row for row in running if not row.is_reference]
        chosen = running if names or not fast else fast
        taking += [of_row(row, form, shape) for row in chosen]
    return taking, absent


def of_row(row, form: BenchFormat, shape: LayerShape) -> Contender:
    """A row of the selection table as a contender."""
    return Contender(
        name=row.name,
        form=form,
        layout=row.layout,
        pack=lambda: moe_layer.pack_of(row),
        bind=_binder(row, form),
        refusal=lambda tokens: moe_layer.refuses_tokens(row, tokens, shape.sizes),
        is_capturable=not row.is_reference,
        note=row.note,
        row=row,
    )


def _binder(row, form: BenchFormat):
    def bind(packed, x_TD: Tensor, routed: Routed) -> Callable[[], Tensor]:
        return moe_layer.bind(row, packed, x_TD, routed.ids_TK, routed.weights_TK, activations=form.activations)

    return bind
