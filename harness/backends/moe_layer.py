"""One MoE layer of `fp4moe` as the kernel bench asks for it: shapes, random weights, the table's rows, the reference.

In: plain sizes, format names, tensors. Out: what `harness.kernel_bench` times and judges. Holds no state. The rows of the
selection table pass through as they are; the bench reads their name, layout, note and limits.

Shapes: T tokens, K experts a token, D hidden, F intermediate, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fp4moe import pocket, select
from fp4moe.errors import CheckpointError, FormatError
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.precision import Precision
from fp4moe.quantize.random_codes import random_quantized
from fp4moe.reference import Routing, down, gate_up
from fp4moe.runtime import MixtralConfig, MixtralModel, load_model
from fp4moe.select.refusals import Question, refusal, tokens_refusal
from harness.errors import UsageError

Rows = tuple[QuantizedTensor, QuantizedTensor]
"""gate_up [E, 2F, D] and down [E, D, F], as stored."""


class Sizes(NamedTuple):
    """hidden, intermediate, num_experts, top_k."""

    hidden: int
    intermediate: int
    num_experts: int
    top_k: int


def sizes_of(path: Path) -> Sizes:
    """The layer of a checkpoint's folder or config.json; UsageError for what the runtime does not compute."""
    try:
        config = MixtralConfig.from_json(path)
    except CheckpointError as error:
        raise UsageError(f"--model: {error}") from None
    return Sizes(config.hidden_size, config.intermediate_size, config.num_experts, config.top_k)


def random_rows(sizes: Sizes, weights: str, seeds: tuple[int, int], device: torch.device) -> Rows:
    """Random codes and scales; the two seeds are those of gate_up and of down."""
    shape = sizes.num_experts, 2 * sizes.intermediate, sizes.hidden
    up = random_quantized(weights, shape, seed=seeds[0], device=device)
    return up, random_quantized(weights, (shape[0], sizes.hidden, sizes.intermediate), seed=seeds[1], device=device)


def experts_rows() -> list[Any]:
    """Every implementation of both products, in order of preference."""
    return [row for row in select.IMPLEMENTATIONS if row.op == "experts"]


def explained(sizes: Sizes, weights: str, activations: str, device: torch.device) -> list[tuple[Any, str | None]]:
    """(row, why it does not run on this machine or None), whatever the number of tokens."""
    here = select.Capability.of_device(str(device)), select.MoeShape(*sizes), select.Environment.of_this_machine()
    question = Question(weights, activations, *here)
    return [(row, refusal(row, question)) for row in experts_rows()]


def refuses_tokens(row: Any, tokens: int, sizes: Sizes) -> str | None:
    """Why a call of so many tokens is none for this row, or None."""
    return tokens_refusal(row, tokens, select.MoeShape(*sizes))


def pack_of(row: Any) -> Callable[[QuantizedTensor, QuantizedTensor], Any]:
    """The row's pack function; the stored rows themselves where it has none."""
    return row.load_pack() or RowExperts


def bind(row: Any, packed: Any, x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, *, activations: str) -> Callable[[], Tensor]:
    """A call of the row. A new Routing a call: what it derives from the ids and keeps (order, counts) is part of the layer."""
    experts, num_experts = row.load(), packed.num_experts
    return lambda: experts(x_TD, packed, Routing(ids_TK, weights_TK, num_experts), activations)


def reference_layer(rows: Rows, x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, *, activations: str) -> Tensor:
    """float32 [T, D]: the definition of right, on the stored rows."""
    routing = Routing(ids_TK.long(), weights_TK, rows[1].shape[0])
    return down(gate_up(x_TD.float(), rows[0], routing, activations), rows[1], routing, activations)


def is_format_refusal(error: Exception) -> bool:
    """Whether a value (a NaN) was refused by name, because the format has no code for it."""
    return isinstance(error, FormatError)


def pocket_folder() -> Path:
    """The shipped checkpoint."""
    return pocket.checkpoint_dir()


def pocket_text() -> str:
    """The held-out text that it was never trained on."""
    return pocket.heldout_text()


def load_pocket(implementation: str, *, weights: str, method: str, activations: str, device: torch.device) -> MixtralModel:
    """The shipped model with one implementation forced; whatever loading and packing raise."""
    precision = Precision(weights, method, activations)
    return load_model(pocket.checkpoint_dir(), precision, device=str(device), implementation=implementation)


def with_experts(model: MixtralModel, change: Callable[[Rows], Rows]) -> MixtralModel:
    """The model with (gate_up, down) of every layer changed; for implementations that take the stored rows."""
    layers = []
    for layer in model.weights.layers:
        layers.append(replace(layer, experts=RowExperts(*change((layer.experts.gate_up, layer.experts.down)))))
    return MixtralModel(model.config, model.precision, replace(model.weights, layers=tuple(layers)), model.choices)
