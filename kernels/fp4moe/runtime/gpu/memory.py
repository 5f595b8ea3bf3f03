"""What the GPU engine will hold of a device, from shapes alone: before a weight is read.

In: config, precision, layout of the experts, slots, context, prompt tokens of a step. Out: bytes by cause. Weights as
../memory.py has them; the cache exactly; the workspace of the largest prompt step as the sum of what lives at once in a layer's
experts, which is where most does. CUDA's own share (context, libraries, kernels) is a constant that was measured.

Shapes: T tokens of a step, K experts a token, S = T K slots of a layer, D hidden, F intermediate, V vocabulary.
"""

from __future__ import annotations

from fp4moe.precision import Precision
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.gpu.cache import nbytes_of
from fp4moe.runtime.memory import predict_memory_bytes

# Measured on H100 with torch 2.11 and CUDA 13 (docs/runtime.md): context, cuBLAS, compiled kernels, graphs' own memory.
CUDA_BYTES = 820_000_000
# What the allocator reserves over what lives at once, pools of graphs included: 1.12 GB for .57 on an H100.
WORKSPACE_RESERVED = 1.96
# What loading and capturing leave in the allocator and nobody uses: .9 to 1.3 GB over the rest in NVFP4 on H100 and H200,
# .4 to .8 in BF16, whatever the batch (docs/runtime.md).
ALLOCATOR_SLACK = 1_000_000_000
# A hidden value: residual, normed, attention's output, the experts' output of the last layer and of this one.
_RESIDUAL_BYTES = 4 + 2 + 2 + 4 + 4


def predict_gpu_bytes(
    config: MixtralConfig, precision: Precision, *, layout: str, max_slots: int, max_context: int, step_tokens: int
) -> dict[str, int]:
    """Bytes by cause: those of `predict_memory_bytes`, and `step_workspace`, `allocator_slack` and `cuda`."""
    tokens = max(1, min(step_tokens, max_slots * max_context))
    causes = predict_memory_bytes(config, precision, max_slots=max_slots, max_context=max_context)
    causes["kv_cache"] = nbytes_of(config, max_slots, max_context)
    causes["step_workspace"] = _workspace_bytes(config, precision, layout, tokens, min(max_slots, tokens))
    return causes | {"allocator_slack": ALLOCATOR_SLACK, "cuda": CUDA_BYTES}


def _workspace_bytes(config: MixtralConfig, precision: Precision, layout: str, tokens: int, prompts: int) -> int:
    hidden, intermediate, slots = config.hidden_size, config.intermediate_size, tokens * config.top_k
    logits = prompts * config.vocab_size * 4
    held = max(tokens * hidden * _RESIDUAL_BYTES + _experts_bytes(layout, precision, slots, hidden, intermediate), logits)
    return round(held * WORKSPACE_RESERVED)


def _experts_bytes(layout: str, precision: Precision, slots: int, hidden: int, intermediate: int) -> int:
    """x and h of a layer's slots; with stored rows also a float32 row of the output a slot, to be summed up."""
    if layout == "e4m3":  # x in codes; h in BF16, then in codes
        return slots * (hidden + 3 * intermediate)
    if layout != "rows":
        return slots * 2 * (hidden + intermediate)
    h_bytes = 5 if precision.activations == "fp8" else 2  # float32 before it is rounded, and the codes
    return slots * (h_bytes * intermediate + 4 * hidden)
