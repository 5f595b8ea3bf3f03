"""Small Mixtral checkpoints for the tests of fp4moe/checkpoint.

CONFIG has no two equal sizes where a mix-up could hide: 4 experts, 2 layers, hidden 64, intermediate 96, 4
heads of 24.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fp4moe.checkpoint import write_random

CONFIG = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 80,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}
PLACES = [(layer, expert) for layer in range(2) for expert in range(4)]
MATRICES = ("w1", "w2", "w3")
EXPERT = "model.layers.0.block_sparse_moe.experts.0.w1"


def write(folder: Path, *, max_shard_bytes: int = 10**9, **changes) -> Path:
    """A checkpoint of CONFIG with `changes`, seed 0."""
    return write_random(folder, CONFIG | changes, seed=0, max_shard_bytes=max_shard_bytes)


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """Apply `change` to the tensors of an unsharded checkpoint, in place."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **changes) -> Path:
    """Change keys of config.json; None removes one."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def input_amax() -> dict[str, float]:
    """Calibration results for every expert matrix; gate and up of an expert differ on purpose."""
    return {
        f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}": 1.5 + layer + expert + 0.25 * place
        for layer, expert in PLACES
        for place, matrix in enumerate(MATRICES)
    }


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Equal shape, dtype and bits."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(as_bytes(a), as_bytes(b))


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
