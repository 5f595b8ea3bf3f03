"""Seeded random weights in the place of a checkpoint: right for speed and memory, meaningless for quality.

In: a config and a seed. Out: BF16 tensors by their Hugging Face name, and on a GPU the experts of a layer in their format at
once (quantize/random_codes.py), drawn when asked for, so that the whole model never exists in BF16. Each tensor has its own
generator (seed and name), so the order of asking does not matter. Normal with standard deviation 0.02, the initializer range of
Mixtral; norms are 1. CPU and CUDA generators differ: the same seed gives the same weights on the same kind of device only.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fp4moe.layouts import QuantizedTensor, RowExperts
from fp4moe.precision import Precision
from fp4moe.quantize.random_codes import FORMATS, random_quantized
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

    def layer_experts(self, layer: int, precision: Precision) -> RowExperts | None:
        """All experts of a layer, born quantized; None on a CPU and for formats without random codes, which `expert` serves."""
        if self.device.type != "cuda" or precision.weights not in FORMATS:
            return None
        config = self.config
        shapes = (
            (config.num_experts, 2 * config.intermediate_size, config.hidden_size),
            (config.num_experts, config.hidden_size, config.intermediate_size),
        )
        seeds = (zlib.crc32(f"{self.seed} layer {layer} {part}".encode()) for part in ("gate_up", "down"))
        parts = (
            random_quantized(precision.weights, shape, seed=seed, device=self.device)
            for shape, seed in zip(shapes, seeds, strict=True)
        )
        return RowExperts(*(replace(part, method=precision.method) for part in parts))

    def identity(self, precision: Precision) -> str:
        """What stands for the weights' bytes in their hash: everything that they follow from."""
        return f"random codes of {self.config} seed {self.seed} {precision.weights} on {self.device.type}"

    def _normal(self, shape: tuple[int, ...], name: str) -> Tensor:
        # The CPU's generator ignores all but 32 bits of its seed, so seed and name are hashed into 32.
        generator = torch.Generator(self.device).manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))
        empty = torch.empty(shape, dtype=torch.bfloat16, device=self.device)
        return empty.normal_(0.0, STANDARD_DEVIATION, generator=generator)
