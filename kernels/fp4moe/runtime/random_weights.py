"""Seeded random weights in the place of a checkpoint: right for speed and memory, meaningless for quality.

In: a config and a seed. Out: BF16 tensors by their Hugging Face name, drawn when asked for, so that the whole
model never exists in BF16. Each tensor has its own generator (seed and name), so the order of asking does not
matter. Normal with standard deviation 0.02, the initializer range of Mixtral; norms are 1. CPU and CUDA
generators differ: the same seed gives the same weights on the same kind of device only.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.layouts import QuantizedTensor
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.names import expert_shape, tensor_shape

STANDARD_DEVIATION = 0.02


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """A source for `load_model`."""

    config: MixtralConfig
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RandomSource:
    """The part of `checkpoint.Checkpoint` that loading needs, with weights drawn on `device`."""

    config: MixtralConfig
    seed: int
    device: torch.device

    def tensor(self, name: str) -> Tensor:
        """BF16 tensor of a Hugging Face name."""
        shape = tensor_shape(self.config, name)
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16, device=self.device)
        return self._normal(shape, name)

    def expert(self, layer: int, expert: int, matrix: str) -> QuantizedTensor:
        """One expert's w1, w2 or w3, stored as BF16."""
        shape = expert_shape(self.config, matrix)
        codes = self._normal(shape, f"model.layers.{layer}.experts.{expert}.{matrix}")
        return QuantizedTensor("bf16", "none", shape, codes)

    def _normal(self, shape: tuple[int, ...], name: str) -> Tensor:
        # The CPU's generator ignores all but 32 bits of its seed, so seed and name are hashed into 32.
        generator = torch.Generator(self.device).manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))
        empty = torch.empty(shape, dtype=torch.bfloat16, device=self.device)
        return empty.normal_(0.0, STANDARD_DEVIATION, generator=generator)
