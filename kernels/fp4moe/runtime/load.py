"""A checkpoint folder, or random weights, into a model that runs.

In: `Path` or `RandomWeights`, a `Precision`, a device. Out: `MixtralModel`. Tensors of a folder are read ahead to the device
(checkpoint/stream.py) and checked, quantized and packed there while the next ones are read; one expert is held in BF16 at a
time, so loading needs little beside the result. BF16 experts are quantized, quantized ones taken as they are
(experts.py), and the model's precision then names the method that its weights really have. Everything else
stays BF16. Implementations are chosen before the first weight is read; a layer whose choice has a layout of its own is
packed as it is loaded, and its stored rows are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fp4moe.checkpoint import Checkpoint, ExpertStack, open_checkpoint
from fp4moe.checkpoint.expected import expert_module
from fp4moe.errors import FormatError
from fp4moe.formats import IMPORTED
from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.precision import Precision
from fp4moe.runtime import names
from fp4moe.runtime.choices import choose_here
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.digest import SeedDigest, WeightsDigest
from fp4moe.runtime.experts import prepare_down, prepare_gate_up
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.random_weights import RandomSource, RandomWeights
from fp4moe.runtime.weights import Experts, LayerWeights, ModelWeights, layer_tensors

Progress = Callable[[int, int], None]
Pack = Callable[[QuantizedTensor, QuantizedTensor], Experts]
_EXPERT_MATRICES = ("w1", "w3", "w2")


class Source(Protocol):
    """What loading asks of a checkpoint or of random weights; tensors may lie on any device."""

    def tensor(self, name: str) -> Tensor: ...

    def expert(self, layer: int, expert: int, matrix: str) -> QuantizedTensor: ...


def load_model(
    source: Path | str | Checkpoint | RandomWeights,
    precision: Precision,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    allow_reference: bool = True,
    implementation: str | None = None,
    keep_rows: Collection[int] = (),
) -> MixtralModel:
    """The model in `precision` on `device`; `progress(done_layers, total_layers)` is called after each layer.

    A folder is read ahead by several threads; a checkpoint that is open already as it reads, a tensor when it is asked for.
    `implementation` forces a row of the table by name. `keep_rows`: layers whose stored rows stay in host memory where they
    are packed, which `check_moe_layer` needs. Raises SelectionError when nothing runs `precision` here, CheckpointError for
    the files, FormatError for weights.
    """
    device = torch.device(device)
    config, reading = _open(source, device)
    choices = choose_here(config, precision, str(device), allow_reference=allow_reference, implementation=implementation)
    pack = choices[-1].chosen.load_pack()
    with reading as reader:
        digest = WeightsDigest()
        if isinstance(reader, RandomSource) and reader.device.type == "cuda":
            digest = SeedDigest(reader.identity(precision))
        loader = _Loader(reader, config, precision, device, pack, keep_rows, digest, set())
        weights = loader.model(progress)
    return MixtralModel(config, replace(precision, method=loader.method), weights, choices)


def _open(
    source: Path | str | Checkpoint | RandomWeights, device: torch.device
) -> tuple[MixtralConfig, AbstractContextManager[Source]]:
    if isinstance(source, RandomWeights):
        return source.config, nullcontext(RandomSource(source.config, source.seed, device))
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    checkpoint.validate_headers()
    config = MixtralConfig.from_dict(checkpoint.config, place=str(checkpoint.path / "config.json"))
    if isinstance(source, Checkpoint):
        return config, nullcontext(source)
    return config, checkpoint.streamed(device, reading_order(config))


def reading_order(config: MixtralConfig) -> Iterator[str]:
    """The modules (names without ".weight") of a checkpoint as loading asks for them."""
    stored = [names.EMBEDDING]
    for layer in range(config.num_layers):
        for expert in range(config.num_experts):
            stored += [expert_module(layer, expert, matrix) for matrix in _EXPERT_MATRICES]
        stored += [names.layer_name(layer, name) for name in names.LAYER]
    stored += [names.FINAL_NORM] if config.tie_word_embeddings else [names.FINAL_NORM, names.HEAD]
    return (name.removesuffix(".weight") for name in stored)


@dataclass(frozen=True, slots=True)
class _Loader:
    """Reads tensors in one order, and hashes and packs them on the way."""

    reader: Source
    config: MixtralConfig
    precision: Precision
    device: torch.device
    pack: Pack | None
    keep_rows: Collection[int]
    digest: WeightsDigest | SeedDigest
    methods: set[str]

    @property
    def method(self) -> str:
        """The quantizer of the experts loaded so far; "imported" where a checkpoint mixes several."""
        return next(iter(self.methods)) if len(self.methods) == 1 else IMPORTED

    def model(self, progress: Progress | None) -> ModelWeights:
        """All weights, read in the order of `reading_order`."""
        embedding_VD = self.plain("embedding", names.EMBEDDING)
        layers = []
        for index in range(self.config.num_layers):
            layers.append(self.layer(index))
            if progress is not None:
                progress(index + 1, self.config.num_layers)
        final_norm_D = self.plain("final_norm", names.FINAL_NORM)
        head_VD = None if self.config.tie_word_embeddings else self.plain("head", names.HEAD)
        return ModelWeights(embedding_VD, tuple(layers), final_norm_D, head_VD, self.digest.hexdigest())

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
        gate_ups, downs = ExpertStack(self.config.num_experts), ExpertStack(self.config.num_experts)
        for expert in range(self.config.num_experts):
            gate, up, down = (self.reader.expert(index, expert, matrix).to(self.device) for matrix in _EXPERT_MATRICES)
            place = f"layer {index} expert {expert}"
            gate_ups.add(prepare_gate_up(gate, up, self.precision, name=f"{place} w1 and w3"))
            downs.add(prepare_down(down, self.precision, name=f"{place} w2"))
        return RowExperts(gate_ups.stacked(), downs.stacked())

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
