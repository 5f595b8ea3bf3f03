"""What a loaded model must read and compute, for the roofline: sizes, stored bytes, measured ceilings.

In: a loaded backend, the times of its steps. Out: plain data. Ceilings are measured in this process, on this device.
"""

from harness.backends.native_speed import DECODE_PHASE, experts_hit_by_layer
from harness.kernel_bench import ceilings


def facts(backend, routing: dict, *, mean_context: float) -> dict:
    """`routing`: the arrays of a pass, from which experts hit and tokens a decode step are counted."""
    config, memory = backend.model.config, backend.model.memory_bytes()
    experts = sum(memory[f"expert_{part}"] for part in ("codes", "scales", "tensor_scales"))
    activations = backend.model.precision.activations
    found = ceilings.measure(backend.model.device)
    return {
        "num_layers": config.num_layers,
        "num_experts": config.num_experts,
        "top_k": config.top_k,
        "hidden": config.hidden_size,
        "intermediate": config.intermediate_size,
        "vocab": config.vocab_size,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "expert_bytes": experts / (config.num_layers * config.num_experts),
        "attention_bytes": memory["attention"] / config.num_layers,
        "head_bytes": config.vocab_size * config.hidden_size * 2,
        "router_bytes": memory["router"] / config.num_layers,
        "kv_bytes_per_value": 2,
        "mean_context": mean_context,
        "decode_tokens": _decode_tokens(routing),
        "experts_hit": experts_hit_by_layer(routing, config.num_experts),
        "product_kind": found.product_kind(activations),
        "ceilings": found.to_json(),
    }


def _decode_tokens(routing: dict) -> float | None:
    """Mean tokens of a decode step; None when there was none."""
    steps = routing["step"][routing["phase"] == DECODE_PHASE]
    return len(steps) / len(set(steps.tolist())) if len(steps) else None
