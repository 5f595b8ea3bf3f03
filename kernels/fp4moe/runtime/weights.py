"""The weights of a Mixtral model as they are held, and what they take.

In: BF16 tensors and experts from load.py. Out: `ModelWeights`, which can be measured by cause. Every tensor but the experts
is BF16 in storage. The hash is of the weights as stored, whatever layout the experts were packed to, so it is taken while they
are loaded (digest.py). Computes nothing; see model.py.

Shapes: D hidden, H heads, G key-value heads, d head_dim, E experts, F intermediate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from torch import Tensor

from fp4moe.layouts import RowExperts


class Experts(Protocol):
    """The experts of one layer in some layout."""

    layout: str

    def tensors(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer. qkv_ND: query, key and value rows stacked, N = (H + 2 G) d.

    stored_bytes: what the experts take as stored rows, by part; `experts` may be another layout of the same codes and
    scales. kept_rows: the stored rows in host memory, for checking a packed layer; not part of the model.
    """

    attention_norm_D: Tensor
    qkv_ND: Tensor
    output_DN: Tensor
    moe_norm_D: Tensor
    router_ED: Tensor
    experts: Experts
    stored_bytes: Mapping[str, int]
    kept_rows: RowExperts | None = None

    @property
    def rows(self) -> RowExperts | None:
        """The experts as stored, where they are still there."""
        return self.experts if isinstance(self.experts, RowExperts) else self.kept_rows

    def expert_bytes(self) -> dict[str, int]:
        """Bytes of the experts as held, by part. Their sum is that of all tensors held.

        A packed layout may hold codes and scales in one tensor: its codes are then what is left beside as many bytes of
        scales as the stored rows have, its padding included.
        """
        held = sum(tensor.nbytes for tensor in self.experts.tensors().values())
        scales = {part: num_bytes for part, num_bytes in self.stored_bytes.items() if part != "codes"}
        return {"codes": held - sum(scales.values())} | scales


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All of a model. head_VD is None when the head is the embedding. sha256: see digest.WeightsDigest."""

    embedding_VD: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm_D: Tensor
    head_VD: Tensor | None
    sha256: str

    def memory_bytes(self) -> dict[str, int]:
        """Bytes held, by cause; the sum is all the weights of the model."""
        totals = {f"expert_{part}": 0 for part in ("codes", "scales", "tensor_scales")}
        for layer in self.layers:
            for part, num_bytes in layer.expert_bytes().items():
                totals[f"expert_{part}"] += num_bytes
        totals["attention"] = sum(layer.qkv_ND.nbytes + layer.output_DN.nbytes for layer in self.layers)
        totals["embedding"] = self.embedding_VD.nbytes + (0 if self.head_VD is None else self.head_VD.nbytes)
        totals["router"] = sum(layer.router_ED.nbytes for layer in self.layers)
        norms = sum(layer.attention_norm_D.nbytes + layer.moe_norm_D.nbytes for layer in self.layers)
        totals["norm"] = norms + self.final_norm_D.nbytes
        return totals

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor held."""
        yield "embedding", self.embedding_VD
        for index, layer in enumerate(self.layers):
            yield from layer_tensors(index, layer, layer.experts)
        yield "final_norm", self.final_norm_D
        if self.head_VD is not None:
            yield "head", self.head_VD


def layer_tensors(index: int, layer: LayerWeights, experts: Experts) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a layer by name, with its experts as `experts` holds them."""
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, Tensor):
            yield f"layers.{index}.{field.name}", value
    for name, tensor in experts.tensors().items():
        yield f"layers.{index}.{name}", tensor
