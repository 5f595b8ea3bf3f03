"""A checkpoint folder, or random weights, into a model that runs.

In: `Path` or `RandomWeights`, a `Precision`, a device. Out: `MixtralModel`. One expert is held in BF16 at a
time, so loading needs little beside the result. BF16 experts are quantized, quantized ones taken as they are
(experts.py), and the model's precision then names the method that its weights really have. Everything else
stays BF16. Implementations are chosen before the first weight is read; a layer whose choice has a layout of its own is
packed as it is loaded, and its stored rows are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fp4moe.checkpoint import Checkpoint, open_checkpoint, stack_experts
from fp4moe.errors import FormatError
from fp4moe.formats import IMPORTED
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.precision import Precision
from fp4moe.runtime import names
from fp4moe.runtime.choices import choose_here
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.experts import prepare_down, prepare_gate_up
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.random_weights import RandomSource, RandomWeights
from fp4moe.runtime.weights import Experts, LayerWeights, ModelWeights, SeedDigest, WeightsDigest, layer_tensors

Progress = Callable[[int, int], None]
Pack = Callable[[QuantizedTensor, QuantizedTensor], Experts]


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
    implementation: str | None = None,
    keep_rows: Collection[int] = (),
) -> MixtralModel:
    """The model in `precision` on `device`; `progress(done_layers, total_layers)` is called after each layer.

    `implementation` forces a row of the table by name. `keep_rows`: layers whose stored rows stay in host memory where they
    are packed, which `check_moe_layer` needs. Raises SelectionError when nothing runs `precision` here, CheckpointError for
    the files, FormatError for weights.
    """
    config, reader = _open(source, torch.device(device))
    choices = choose_here(config, precision, device, allow_reference=allow_reference, implementation=implementation)
    digest = WeightsDigest()
    if isinstance(reader, RandomSource) and reader.device.type == "cuda":
        digest = SeedDigest(reader.identity(precision))
    loader = _Loader(reader, config, precision, device, choices[-1].chosen.load_pack(), keep_rows, digest, set())
    embedding_VD = loader.plain("embedding", names.EMBEDDING)
    layers = []
    for index in range(config.num_layers):
        layers.append(loader.layer(index))
        if progress is not None:
            progress(index + 1, config.num_layers)
    final_norm_D = loader.plain("final_norm", names.FINAL_NORM)
    head_VD = None if config.tie_word_embeddings else loader.plain("head", names.HEAD)
    weights = ModelWeights(embedding_VD, tuple(layers), final_norm_D, head_VD, loader.digest.hexdigest())
    return MixtralModel(config, replace(precision, method=loader.method), weights, choices)


def _open(source: Path | str | RandomWeights, device: torch.device) -> tuple[MixtralConfig, Source]:
    if isinstance(source, RandomWeights):
        return source.config, RandomSource(source.config, source.seed, device)
    checkpoint: Checkpoint = open_checkpoint(source)
    checkpoint.validate_headers()
    return MixtralConfig.from_dict(checkpoint.config, place=str(checkpoint.path / "config.json")), checkpoint


@dataclass(frozen=True, slots=True)
class _Loader:
    """Reads tensors in one order, and hashes and packs them on the way."""

    reader: Source
    config: MixtralConfig
    precision: Precision
    device: str
    pack: Pack | None
    keep_rows: Collection[int]
    digest: WeightsDigest | SeedDigest
    methods: set[str]

    @property
    def method(self) -> str:
        """The quantizer of the experts loaded so far; "imported" where a checkpoint mixes several."""
        return next(iter(self.methods)) if len(self.methods) == 1 else IMPORTED

    def plain(self, name: str, stored_name: str) -> Tensor:
        """A tensor that is not an expert's, hashed under `name`."""
        tensor = self._tensor(stored_name)
        self.digest.add(name, tensor)
        return tensor

    def layer(self, index: int) -> LayerWeights:
        """A layer with its experts packed."""

        def plain(name: str) -> Tensor:
            return self._tensor(names.layer_name(index, name))

        rows = self._rows(index)
        layer = LayerWeights(
            attention_norm_D=plain(names.ATTENTION_NORM),
            qkv_ND=torch.cat([plain(name) for name in (names.QUERY, names.KEY, names.VALUE)]),
            output_DN=plain(names.OUTPUT),
            moe_norm_D=plain(names.MOE_NORM),
            router_ED=plain(names.ROUTER),
            experts=self._packed(index, rows),
            stored_bytes=rows.nbytes(),
            kept_rows=rows.to("cpu") if self.pack is not None and index in self.keep_rows else None,
        )
        for name, tensor in layer_tensors(index, layer, rows):
            self.digest.add(name, tensor)
        self.methods.update((rows.gate_up.method, rows.down.method))
        return layer

    def _rows(self, index: int) -> RowExperts:
        if isinstance(self.reader, RandomSource) and (rows := self.reader.layer_experts(index, self.precision)) is not None:
            return rows
        gate_ups, downs = [], []
        for expert in range(self.config.num_experts):
            gate, up, down = (self.reader.expert(index, expert, matrix).to(self.device) for matrix in ("w1", "w3", "w2"))
            place = f"layer {index} expert {expert}"
            gate_ups.append(prepare_gate_up(gate, up, self.precision, name=f"{place} w1 and w3"))
            downs.append(prepare_down(down, self.precision, name=f"{place} w2"))
        return RowExperts(stack_experts(gate_ups), stack_experts(downs))

    def _packed(self, index: int, rows: RowExperts) -> Experts:
        if self.pack is None:
            return rows
        try:
            return self.pack(rows.gate_up, rows.down)
        except FormatError as error:
            hint = "choose an implementation that takes rows with --set kernels.implementation=NAME"
            raise FormatError(f"layer {index} experts: {error}; {hint} (harness kernels list shows them)") from error

    def _tensor(self, stored_name: str) -> Tensor:
        return self.reader.tensor(stored_name).to(device=self.device, dtype=torch.bfloat16)
