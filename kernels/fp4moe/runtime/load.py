"""A checkpoint folder, or random weights, into a model that runs.

In: `Path` or `RandomWeights`, a `Precision`, a device. Out: `MixtralModel`. One expert is held in BF16 at a
time, so loading needs little beside the result. BF16 experts are quantized, quantized ones taken as they are
(experts.py), and the model's precision then names the method that its weights really have. Everything else
stays BF16. An implementation is chosen for every operation before the first weight is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fp4moe.checkpoint import Checkpoint, open_checkpoint, stack_experts
from fp4moe.formats import IMPORTED
from fp4moe.layouts import QuantizedTensor
from fp4moe.precision import Precision
from fp4moe.runtime import names
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.experts import prepare_down, prepare_gate_up
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.random_weights import RandomSource, RandomWeights
from fp4moe.runtime.weights import LayerWeights, ModelWeights
from fp4moe.select import OPS, Capability, choose

Progress = Callable[[int, int], None]


class Source(Protocol):
    """What loading asks of a checkpoint or of random weights; tensors may lie on any device."""

    def tensor(self, name: str) -> Tensor: ...

    def expert(self, layer: int, expert: int, matrix: str) -> QuantizedTensor: ...


def load_model(
    source: Path | str | RandomWeights,
    precision: Precision,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    allow_reference: bool = True,
) -> MixtralModel:
    """The model in `precision` on `device`; `progress(done_layers, total_layers)` is called after each layer.

    Raises SelectionError when nothing runs `precision` here, CheckpointError for the files, FormatError for
    weights.
    """
    capability = Capability.of_device(device)
    choices = tuple(
        choose(op, precision.weights, precision.activations, capability, allow_reference=allow_reference) for op in OPS
    )
    config, reader = _open(source, torch.device(device))
    layers = []
    for index in range(config.num_layers):
        layers.append(_load_layer(reader, index, config.num_experts, precision, device=device))
        if progress is not None:
            progress(index + 1, config.num_layers)
    weights = ModelWeights(
        embedding_VD=_plain(reader, names.EMBEDDING, device),
        layers=tuple(layers),
        final_norm_D=_plain(reader, names.FINAL_NORM, device),
        head_VD=None if config.tie_word_embeddings else _plain(reader, names.HEAD, device),
    )
    return MixtralModel(config, replace(precision, method=_method_of(layers)), weights, choices)


def _open(source: Path | str | RandomWeights, device: torch.device) -> tuple[MixtralConfig, Source]:
    if isinstance(source, RandomWeights):
        return source.config, RandomSource(source.config, source.seed, device)
    checkpoint: Checkpoint = open_checkpoint(source)
    checkpoint.validate_headers()
    return MixtralConfig.from_dict(checkpoint.config, place=str(checkpoint.path / "config.json")), checkpoint


def _load_layer(reader: Source, index: int, num_experts: int, precision: Precision, *, device: str) -> LayerWeights:
    def plain(name: str) -> Tensor:
        return _plain(reader, names.layer_name(index, name), device)

    gate_ups, downs = [], []
    for expert in range(num_experts):
        gate, up, down = (reader.expert(index, expert, matrix).to(device) for matrix in ("w1", "w3", "w2"))
        place = f"layer {index} expert {expert}"
        gate_ups.append(prepare_gate_up(gate, up, precision, name=f"{place} w1 and w3"))
        downs.append(prepare_down(down, precision, name=f"{place} w2"))
    return LayerWeights(
        attention_norm_D=plain(names.ATTENTION_NORM),
        qkv_ND=torch.cat([plain(name) for name in (names.QUERY, names.KEY, names.VALUE)]),
        output_DN=plain(names.OUTPUT),
        moe_norm_D=plain(names.MOE_NORM),
        router_ED=plain(names.ROUTER),
        gate_up=stack_experts(gate_ups),
        down=stack_experts(downs),
    )


def _plain(reader: Source, name: str, device: str) -> Tensor:
    return reader.tensor(name).to(device=device, dtype=torch.bfloat16)


def _method_of(layers: list[LayerWeights]) -> str:
    """The quantizer of the experts; "imported" where a checkpoint mixes several."""
    methods = {experts.method for layer in layers for experts in (layer.gate_up, layer.down)}
    return methods.pop() if len(methods) == 1 else IMPORTED
