"""A Mixtral checkpoint of seeded random weights, for engines that can only load from disk.

In: the dict of a config.json and a seed. Out: a Hugging Face folder (config.json and BF16 safetensors, no
tokenizer). Weights are normal with standard deviation 0.02, norms are one. For speed and memory only: such a
model says nothing about quality. The same config and seed give the same bytes.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from fp4moe.checkpoint.expected import EXPERT_MATRICES, Sizes, expert_module
from fp4moe.checkpoint.writer import ShardWriter
from fp4moe.errors import CheckpointError

_STANDARD_DEVIATION = 0.02  # `initializer_range` of Mixtral's config.json


def write_random(folder: Path | str, config: dict, seed: int, *, max_shard_bytes: int = 5 * 10**9) -> Path:
    """Write the new folder; CheckpointError if it exists and is not empty, or if `config` lacks a size."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder}: must not exist or be an empty folder; choose another or remove it")
    sizes = Sizes.from_config(config, "config")
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    writer = ShardWriter(folder, max_shard_bytes, {})
    for name, shape in sizes.plain_shapes().items():
        writer.add(name, torch.ones(shape, dtype=torch.bfloat16) if len(shape) == 1 else _normal(shape, generator))
    for layer, expert in sizes.experts():
        for matrix in EXPERT_MATRICES:
            name = f"{expert_module(layer, expert, matrix)}.weight"
            writer.add(name, _normal(sizes.expert_shape(matrix), generator))
    writer.close()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).mul_(_STANDARD_DEVIATION).to(torch.bfloat16)
