"""Writes a trained model in the Hugging Face Mixtral layout, BF16.

Out: DATA/model.safetensors, config.json, generation_config.json. The output
projection is tied to the embedding, so `lm_head.weight` is not in the file.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .model import PocketMixtral, Shape
from .tokenizer import BOS_ID, EOS_ID

MAX_POSITIONS = 2048


def state_dict_hf(model: PocketMixtral) -> dict[str, Tensor]:
    """Parameters under the names of published Mixtral checkpoints, experts unstacked."""
    state = {}
    for name, tensor in model.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if leaf in ("w1", "w2", "w3"):
            for expert, weight in enumerate(tensor):
                state[f"model.{stem}.experts.{expert}.{leaf}.weight"] = weight.clone()
        else:
            state[f"model.{name}"] = tensor.clone()
    return state


def load_state_dict_hf(model: PocketMixtral, state: dict[str, Tensor]) -> None:
    """The inverse of state_dict_hf."""
    mine = {}
    for name in model.state_dict():
        stem, _, leaf = name.rpartition(".")
        if leaf in ("w1", "w2", "w3"):
            rows = [state[f"model.{stem}.experts.{e}.{leaf}.weight"] for e in range(model.shape.num_local_experts)]
            mine[name] = torch.stack(rows)
        else:
            mine[name] = state[f"model.{name}"]
    model.load_state_dict(mine)


def config_hf(shape: Shape, aux_coefficient: float) -> dict:
    """config.json for transformers.MixtralConfig."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **asdict(shape),
        "hidden_act": "silu",
        "max_position_embeddings": MAX_POSITIONS,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "router_aux_loss_coef": aux_coefficient,
        "router_jitter_noise": 0.0,
        "output_router_logits": False,
        "initializer_range": 0.02,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "use_cache": True,
        "torch_dtype": "bfloat16",
    }


def export(model: PocketMixtral, out: Path, aux_coefficient: float) -> None:
    """The three files of a checkpoint (the tokenizer is tokenizer.py's)."""
    state = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in state_dict_hf(model).items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    generation = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    for name, content in (
        ("config.json", config_hf(model.shape, aux_coefficient)),
        ("generation_config.json", generation),
    ):
        (out / name).write_text(json.dumps(content, indent=1) + "\n")
