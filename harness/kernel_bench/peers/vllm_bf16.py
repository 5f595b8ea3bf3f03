"""vLLM's Triton fused MoE in BF16 x BF16: what FP4 is to be faster than.

Inside its call: alignment by expert, both products, SiLU, router weights and the sum over a token's experts. The tuned
configuration that vLLM ships for the shape and GPU is taken where there is one; the note says which.
"""

from __future__ import annotations

import torch

from harness.kernel_bench.contenders import Contender
from harness.kernel_bench.peers.common import peer, take, tuned_configuration, version
from harness.kernel_bench.shapes import LayerShape


def contenders(shape: LayerShape, device: torch.device) -> list[Contender]:
    """One: BF16 x BF16."""
    (run,) = take("vllm", "vllm.model_executor.layers.fused_moe:fused_experts")

    def bind(packed, x_TD, routed):
        w13, w2 = packed
        return lambda: run(x_TD, w13, w2, routed.weights_TK, routed.ids_TK)

    tuned = tuned_configuration(shape.num_experts, shape.intermediate, None)
    note = f"vLLM {version('vllm')}, Triton fused_experts; {tuned}"
    return [peer("vllm-bf16", "bf16-a16", pack=lambda up, down: (up.codes, down.codes), bind=bind, note=note)]
