"""The weights of a Mixtral model as they are held, and what they take.

In: BF16 tensors and QuantizedTensors from load.py. Out: `ModelWeights`, which can be measured by cause and
hashed. Every tensor but the experts is BF16 in storage. Computes nothing; see model.py.

Shapes: D hidden, H heads, G key-value heads, d head_dim, E experts, F intermediate, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fp4moe.layouts import QuantizedTensor


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer. qkv_ND: query, key and value rows stacked, N = (H + 2 G) d."""

    attention_norm_D: Tensor
    qkv_ND: Tensor
    output_DN: Tensor
    moe_norm_D: Tensor
    router_ED: Tensor
    gate_up: QuantizedTensor  # [E, 2F, D], gate rows first
    down: QuantizedTensor  # [E, D, F]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All of a model. head_VD is None when the head is the embedding."""

    embedding_VD: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm_D: Tensor
    head_VD: Tensor | None

    def memory_bytes(self) -> dict[str, int]:
        """Bytes stored, by cause; the sum is all the weights of the model."""
        totals = {f"expert_{part}": 0 for part in ("codes", "scales", "tensor_scales")}
        for layer in self.layers:
            for experts in (layer.gate_up, layer.down):
                for part, num_bytes in experts.nbytes().items():
                    totals[f"expert_{part}"] += num_bytes
        totals["attention"] = sum(layer.qkv_ND.nbytes + layer.output_DN.nbytes for layer in self.layers)
        totals["embedding"] = self.embedding_VD.nbytes + (0 if self.head_VD is None else self.head_VD.nbytes)
        totals["router"] = sum(layer.router_ED.nbytes for layer in self.layers)
        norms = sum(layer.attention_norm_D.nbytes + layer.moe_norm_D.nbytes for layer in self.layers)
        totals["norm"] = norms + self.final_norm_D.nbytes
        return totals

    def sha256(self) -> str:
        """Hash of every stored byte with its name, dtype and shape; the same on every device."""
        digest = hashlib.sha256()
        for name, tensor in self._named_tensors():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "embedding", self.embedding_VD
        for index, layer in enumerate(self.layers):
            for field in fields(layer):
                yield from _parts(f"layers.{index}.{field.name}", getattr(layer, field.name))
        yield "final_norm", self.final_norm_D
        if self.head_VD is not None:
            yield "head", self.head_VD


def _parts(name: str, value: Tensor | QuantizedTensor) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
        return
    for part in ("codes", "scales", "tensor_scale"):
        tensor = getattr(value, part)
        if tensor is not None:
            yield f"{name}.{part}", tensor
