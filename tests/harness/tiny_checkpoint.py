"""A tiny random Mixtral checkpoint as a folder, for tests to run or to break.

In: a folder, changes to config.json. Out: config.json, model.safetensors (BF16), the shipped model's tokenizer and the
beginning of its held-out text. One layer, hidden 64, 4 experts: loads in a tenth of a second; its quality means nothing.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from harness.models import pocket_folder

CONFIG = {
    "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "num_local_experts": 4,
    "num_experts_per_tok": 2, "vocab_size": 2048, "max_position_embeddings": 512, "rope_theta": 1e4,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TEXT_BYTES = 12_000
ATTENTION = "model.layers.0.self_attn."
MOE = "model.layers.0.block_sparse_moe."
EXPERT = f"{MOE}experts.2.w1.weight"


def tiny_tensors(config: dict) -> dict[str, torch.Tensor]:
    """Every tensor of a one-layer model, normal with standard deviation 0.02, norms one, seeded."""
    c = config
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    query, key = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    shapes = {
        "model.embed_tokens.weight": (c["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
        "model.layers.0.input_layernorm.weight": (hidden,),
        "model.layers.0.post_attention_layernorm.weight": (hidden,),
        f"{ATTENTION}q_proj.weight": (query, hidden),
        f"{ATTENTION}k_proj.weight": (key, hidden),
        f"{ATTENTION}v_proj.weight": (key, hidden),
        f"{ATTENTION}o_proj.weight": (hidden, query),
        f"{MOE}gate.weight": (c["num_local_experts"], hidden),
    }
    for expert in range(c["num_local_experts"]):
        shapes |= {f"{MOE}experts.{expert}.{w}.weight": (inner, hidden) for w in ("w1", "w3")}
        shapes[f"{MOE}experts.{expert}.w2.weight"] = (hidden, inner)
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.ones(shape).bfloat16() if len(shape) == 1 else _normal(shape, generator) for name, shape in shapes.items()
    }


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return (torch.randn(shape, generator=generator) * 0.02).bfloat16()


def write_tiny(folder: Path, **changes: object) -> Path:
    """Write the checkpoint, with `changes` to config.json, and give the folder back."""
    config = CONFIG | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tiny_tensors(config), folder / "model.safetensors")
    shutil.copy(pocket_folder() / "tokenizer.json", folder / "tokenizer.json")
    text = (pocket_folder() / "heldout.txt").read_text(encoding="utf-8")
    (folder / "heldout.txt").write_text(text[:TEXT_BYTES], encoding="utf-8")
    return folder
