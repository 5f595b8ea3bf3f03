"""Copies of one MoE layer with random weights, packed once for every layout that somebody asks for.

In: a shape, weight formats, (layout -> pack function), number of copies. Out: `Layers`: packed copies by weight format and
layout, and the stored rows of copy 0, which the reference is computed from. Copies have different weights; a copy's rows
are drawn, packed for every layout and dropped before the next.

Shapes: D hidden, F intermediate, E experts; gate_up [E, 2F, D], down [E, D, F].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.backends import moe_layer
from harness.kernel_bench.machine import survive
from harness.kernel_bench.shapes import LayerShape

Pack = Callable[[Any, Any], Any]
"""(gate_up, down), both QuantizedTensor -> whatever the implementation takes."""


@dataclass(frozen=True, slots=True)
class Layers:
    """packed[weights, layout][copy]; rows[weights] = (gate_up, down) of copy 0; failed: why a layout could not be packed."""

    packed: dict[tuple[str, str], list[Any]]
    rows: dict[str, tuple[Any, Any]]
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


def random_rows(shape: LayerShape, weights: str, *, seed: int, copy: int, device: torch.device):
    """(gate_up, down) of one copy."""
    # Seeds of a copy and of its two matrices must differ; 32 bits is what the CPU's generator takes.
    first = (seed * 1_000_003 + copy * 2) % 2**32
    return moe_layer.random_rows(shape.sizes, weights, (first, (first + 1) % 2**32), device)


def make_layers(
    shape: LayerShape, packs: Mapping[tuple[str, str], Pack], *, copies: int, seed: int, device: torch.device
) -> Layers:
    """Every (weights, layout) of `packs`, `copies` times; torch.OutOfMemoryError where they do not fit."""
    packed: dict[tuple[str, str], list[Any]] = {key: [] for key in packs}
    kept, failed = {}, {}
    for weights in dict.fromkeys(weights for weights, _ in packs):
        for copy in range(copies):
            gate_up, down = random_rows(shape, weights, seed=seed, copy=copy, device=device)
            for key, pack in packs.items():
                if key[0] == weights and key not in failed:
                    _append(key, pack, (gate_up, down), packed=packed, failed=failed)
            if copy == 0:
                kept[weights] = (gate_up, down)
    return Layers(packed, kept, failed)


def _append(key: tuple[str, str], pack: Pack, rows: tuple[Any, Any], *, packed: dict, failed: dict) -> None:
    try:
        packed[key].append(pack(*rows))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a layout that cannot be packed is out; the others go on
        survive(error)
        failed[key] = f"packing raised {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
