"""Memory of a vLLM engine by cause, from the parameters that it holds.

In: bytes by parameter name, as its model has them after loading. Out: metrics under our own names. Where an engine keeps
repacked weights outside its parameters (vLLM on a CPU does), the sum falls short of the checkpoint, and the figure is left
out with that reason.
"""

from harness.collect.values import measured, missing
from harness.models import ModelSource

CAUSES = {
    "expert_tensor_scales_bytes": ("_scale_2", "_global_scale"),
    "expert_scales_bytes": ("_scale",),
    "expert_codes_bytes": ("experts.",),
    "attention_bytes": ("self_attn.",),
    "embedding_bytes": ("embed_tokens.", "lm_head."),
    "router_bytes": (".gate.",),
    "norm_bytes": ("norm.",),
}
"""Metric -> what names of its parameters contain; the first that fits counts."""

KV_BYTES = {"auto": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
COMPLETE = 0.98


def memory_metrics(engine: dict, source: ModelSource, expected_bytes: int) -> dict[str, dict]:
    """Weights by cause, KV cache; `expected_bytes`: what the same formats take when stored."""
    return _weights(engine, expected_bytes) | _kv_cache(engine, source)


def _weights(engine: dict, expected_bytes: int) -> dict[str, dict]:
    names = (*CAUSES, "weight_bytes")
    if engine["parameters"] is None:
        return {name: missing(name, f"this vLLM does not tell its parameters: {engine['parameters_reason']}") for name in names}
    total = sum(engine["parameters"].values())
    if total < COMPLETE * expected_bytes:
        held = f"its parameters hold {total} of {expected_bytes} bytes; vLLM repacks the others and keeps them elsewhere"
        return {name: missing(name, held) for name in names}
    sizes = dict.fromkeys(CAUSES, 0)
    for name, size in engine["parameters"].items():
        cause = cause_of(name)
        if cause is not None:
            sizes[cause] += size
    return {name: measured(name, size, 1) for name, size in (sizes | {"weight_bytes": total}).items()}


def cause_of(name: str) -> str | None:
    """Which metric a parameter counts for; scales are the experts' alone, since nothing else is quantized."""
    return next((cause for cause, parts in CAUSES.items() if any(part in name for part in parts)), None)


def _kv_cache(engine: dict, source: ModelSource) -> dict[str, dict]:
    value_bytes = KV_BYTES.get(engine["kv_dtype"].removeprefix("torch."))
    if value_bytes is None or not engine["num_kv_blocks"]:
        reason = f"vLLM's cache of {engine['num_kv_blocks']} blocks in {engine['kv_dtype']} is not one that is understood"
        return {"kv_cache_bytes": missing("kv_cache_bytes", reason)}
    c = source.config
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    token_bytes = 2 * c["num_hidden_layers"] * c["num_key_value_heads"] * head_dim * value_bytes
    return {"kv_cache_bytes": measured("kv_cache_bytes", engine["num_kv_blocks"] * engine["kv_block_tokens"] * token_bytes, 1)}
