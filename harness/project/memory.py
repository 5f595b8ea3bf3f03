"""Memory of a Mixtral-architecture model on one GPU: does it fit, how many copies, what batch.

In: a config.json as data, a weight format, a GPU. Out: bytes by cause, and Fit. Arithmetic only.

    experts  = layers * E * 3 * D * F * bits / 8        NVFP4 4.5, MXFP4 4.25, FP8 8, BF16 16, INT4 4.5, ternary 2.25
    the rest = attention, embeddings, router and norms in BF16
    KV cache = 2 * layers * kv heads * head size * 2 bytes a token
"""

from dataclasses import dataclass

from harness.kernel_bench.formats import BITS_A_WEIGHT
from harness.project.gpus import GpuSpec

BITS = BITS_A_WEIGHT | {"int4": 4.5, "ternary": 2.25}
"""Bits a weight with block scales, as fp4moe.formats counts them."""
RESERVED_BYTES = 1_300_000_000
"""CUDA context, libraries, graphs and workspaces; between .9 and 1.6 GB for vLLM and torch on one GPU. An assumption."""
ACTIVATION_TOKENS = 8192
"""Tokens of the largest step, whose activations must fit."""
USABLE = 0.98
"""Share of the reported memory that can be allocated at all: page granularity and what the driver keeps."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Mixtral-architecture decoder."""

    name: str
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    top_k: int
    vocab: int
    max_positions: int
    is_tied: bool

    @property
    def expert_weights(self) -> int:
        """Weights of one expert."""
        return 3 * self.hidden * self.intermediate

    @property
    def attention_weights(self) -> int:
        """Weights of one layer's query, key, value and output projections."""
        return 2 * self.hidden * self.head_dim * (self.num_heads + self.num_kv_heads)

    @property
    def num_parameters(self) -> int:
        layer = self.attention_weights + self.num_experts * (self.expert_weights + self.hidden) + 2 * self.hidden
        return self.num_layers * layer + self.embedding_weights + self.hidden

    @property
    def embedding_weights(self) -> int:
        return self.vocab * self.hidden * (1 if self.is_tied else 2)

    @property
    def kv_bytes_a_token(self) -> int:
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * 2


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits on a GPU for sequences of some length."""

    expert_bytes: int
    other_weight_bytes: int
    usable_bytes: int
    activation_bytes: int
    kv_bytes_a_sequence: int

    @property
    def weight_bytes(self) -> int:
        return self.expert_bytes + self.other_weight_bytes

    @property
    def room_bytes(self) -> int:
        """Left for the KV cache; negative where the weights alone do not fit."""
        return self.usable_bytes - self.weight_bytes - self.activation_bytes

    @property
    def max_batch(self) -> int:
        """Sequences of this length at once."""
        return max(0, self.room_bytes // self.kv_bytes_a_sequence)

    @property
    def num_models(self) -> int:
        """Copies of the model that fit, each with room for one sequence."""
        one = self.weight_bytes + self.activation_bytes + self.kv_bytes_a_sequence
        return max(0, self.usable_bytes // one)

    @property
    def fits(self) -> bool:
        return self.max_batch >= 1

    def arithmetic(self) -> str:
        """The sum in words."""
        parts = f"experts {self.expert_bytes / 1e9:.1f} + other weights {self.other_weight_bytes / 1e9:.1f}"
        parts += f" + activations {self.activation_bytes / 1e9:.1f} + KV cache {self.kv_bytes_a_sequence / 1e9:.2f} a sequence"
        return f"{parts}; {self.usable_bytes / 1e9:.1f} GB usable"


def model_shape(name: str, config: dict) -> ModelShape:
    """Sizes from a config.json that harness.models has checked."""
    heads = config["num_attention_heads"]
    return ModelShape(
        name=name,
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        num_experts=config["num_local_experts"],
        top_k=config["num_experts_per_tok"],
        vocab=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        is_tied=bool(config.get("tie_word_embeddings")),
    )


def expert_bytes(shape: ModelShape, weights: str) -> int:
    """Codes and scales of all experts."""
    return int(shape.num_layers * shape.num_experts * shape.expert_weights * BITS[weights] / 8)


def other_weight_bytes(shape: ModelShape) -> int:
    """Everything but the experts, in BF16."""
    all_experts = shape.num_layers * shape.num_experts * shape.expert_weights
    return 2 * (shape.num_parameters - all_experts)


def activation_bytes(shape: ModelShape, tokens: int) -> int:
    """Peak of a step: residual, expert inputs and intermediates of top_k slots in BF16, logits of one row a sequence."""
    a_token = 2 * (4 * shape.hidden + shape.top_k * (shape.hidden + 3 * shape.intermediate))
    return a_token * tokens


def fit(shape: ModelShape, weights: str, gpu: GpuSpec, sequence_tokens: int) -> Fit:
    """Bytes by cause for sequences of `sequence_tokens` (prompt and output)."""
    usable = int(gpu.memory_bytes * USABLE) - RESERVED_BYTES
    step_tokens = min(ACTIVATION_TOKENS, max(sequence_tokens, 2048))
    return Fit(
        expert_bytes(shape, weights),
        other_weight_bytes(shape),
        usable,
        activation_bytes(shape, step_tokens),
        shape.kv_bytes_a_token * sequence_tokens,
    )
