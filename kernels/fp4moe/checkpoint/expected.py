"""What a Mixtral checkpoint must contain, by name and shape.

In: the raw dict of a Hugging Face config.json. Out: the sizes it states, the name and shape of every tensor
that is not an expert, and the module name and shape of every expert matrix. Source: transformers'
`MixtralForCausalLM` as its `save_pretrained` names tensors on disk. Reads no files.

Shapes: V vocabulary, D hidden, F intermediate, E experts, N = heads * head_dim, G = key-value heads *
head_dim.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fp4moe.errors import CheckpointError

GATE, DOWN, UP = "w1", "w2", "w3"
EXPERT_MATRICES = (GATE, DOWN, UP)
HEAD = "lm_head"
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of config.json that decide shapes."""

    vocab: int
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    is_tied: bool

    @classmethod
    def from_config(cls, config: dict, place: str) -> "Sizes":
        """Parse; CheckpointError naming `place` and key for another architecture or a bad number."""
        model_type = config.get("model_type", "mixtral")
        if model_type != "mixtral":
            raise CheckpointError(f"{place}: model_type: must be 'mixtral' (got {model_type!r}); use a Mixtral checkpoint")
        num_heads = _positive(config, "num_attention_heads", place)
        hidden = _positive(config, "hidden_size", place)
        defaults = {"num_key_value_heads": num_heads, "head_dim": hidden // num_heads}
        known = defaults | {key: value for key, value in config.items() if value is not None}
        return cls(
            vocab=_positive(known, "vocab_size", place),
            hidden=hidden,
            intermediate=_positive(known, "intermediate_size", place),
            num_layers=_positive(known, "num_hidden_layers", place),
            num_heads=num_heads,
            num_kv_heads=_positive(known, "num_key_value_heads", place),
            head_dim=_positive(known, "head_dim", place),
            num_experts=_positive(known, "num_local_experts", place),
            is_tied=bool(known.get("tie_word_embeddings", False)),
        )

    def plain_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that is not an expert, by full name; lm_head only where it is not tied."""
        shapes = {"model.embed_tokens.weight": (self.vocab, self.hidden)}
        for layer in range(self.num_layers):
            shapes |= self._layer_shapes(f"model.layers.{layer}.")
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.is_tied:
            shapes[f"{HEAD}.weight"] = (self.vocab, self.hidden)
        return shapes

    def _layer_shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        query, key_value = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            f"{prefix}input_layernorm.weight": (self.hidden,),
            f"{prefix}self_attn.q_proj.weight": (query, self.hidden),
            f"{prefix}self_attn.k_proj.weight": (key_value, self.hidden),
            f"{prefix}self_attn.v_proj.weight": (key_value, self.hidden),
            f"{prefix}self_attn.o_proj.weight": (self.hidden, query),
            f"{prefix}post_attention_layernorm.weight": (self.hidden,),
            f"{prefix}block_sparse_moe.gate.weight": (self.num_experts, self.hidden),
        }

    def expert_shape(self, matrix: str) -> tuple[int, int]:
        """[F, D] of w1 (gate) and w3 (up), [D, F] of w2 (down)."""
        return (self.hidden, self.intermediate) if matrix == DOWN else (self.intermediate, self.hidden)

    def experts(self) -> Iterator[tuple[int, int]]:
        """Every (layer, expert), in order."""
        return ((layer, expert) for layer in range(self.num_layers) for expert in range(self.num_experts))

    def unquantized_linears(self) -> list[str]:
        """Module names of the linear layers that this package leaves alone: attention, router and head."""
        names = [HEAD]
        for layer in range(self.num_layers):
            names += [f"model.layers.{layer}.self_attn.{projection}" for projection in _ATTENTION]
            names.append(f"model.layers.{layer}.block_sparse_moe.gate")
        return names


def expert_module(layer: int, expert: int, matrix: str) -> str:
    """Module name of one expert matrix, the prefix of its tensors."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}"


def _positive(config: dict, key: str, place: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{place}: {key}: must be an integer of at least 1 (got {value!r}); repair config.json")
    return value
