"""Names and shapes of the tensors that are not experts, as Hugging Face writes Mixtral.

In: a config. Out: the names that the runtime reads and the shape each must have. Source: `transformers` 4
`MixtralForCausalLM.state_dict()`. Expert names are the checkpoint reader's business; only their shapes are
here.

Shapes: D hidden, N = heads * head_dim, G = key-value heads * head_dim, E experts, F intermediate, V
vocabulary.
"""

from __future__ import annotations

from fp4moe.errors import CheckpointError
from fp4moe.runtime.config import MixtralConfig

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"
ATTENTION_NORM = "input_layernorm.weight"
MOE_NORM = "post_attention_layernorm.weight"
QUERY = "self_attn.q_proj.weight"
KEY = "self_attn.k_proj.weight"
VALUE = "self_attn.v_proj.weight"
OUTPUT = "self_attn.o_proj.weight"
ROUTER = "block_sparse_moe.gate.weight"
LAYER = (ATTENTION_NORM, QUERY, KEY, VALUE, OUTPUT, MOE_NORM, ROUTER)  # of one layer, in the order in which they are read


def layer_name(layer: int, name: str) -> str:
    """The full name of a tensor of one layer."""
    return f"model.layers.{layer}.{name}"


def tensor_shape(config: MixtralConfig, name: str) -> tuple[int, ...]:
    """Shape of a tensor that is not an expert; `name` with or without its "model.layers.N." prefix."""
    hidden, query = config.hidden_size, config.num_heads * config.head_dim
    key_value = config.num_kv_heads * config.head_dim
    shapes = {
        EMBEDDING: (config.vocab_size, hidden),
        HEAD: (config.vocab_size, hidden),
        FINAL_NORM: (hidden,),
        ATTENTION_NORM: (hidden,),
        MOE_NORM: (hidden,),
        QUERY: (query, hidden),
        KEY: (key_value, hidden),
        VALUE: (key_value, hidden),
        OUTPUT: (hidden, query),
        ROUTER: (config.num_experts, hidden),
    }
    short = name.split(".", 3)[-1] if name.startswith("model.layers.") else name
    if short not in shapes:
        raise CheckpointError(f"{name}: not a tensor of a Mixtral model; known: {', '.join(shapes)}")
    return shapes[short]


def expert_shape(config: MixtralConfig, matrix: str) -> tuple[int, int]:
    """[F, D] for w1 (gate) and w3 (up), [D, F] for w2 (down)."""
    if matrix == "w2":
        return config.hidden_size, config.intermediate_size
    return config.intermediate_size, config.hidden_size
