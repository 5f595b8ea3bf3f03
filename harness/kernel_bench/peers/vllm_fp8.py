"""vLLM's Triton fused MoE in FP8 x FP8: E4M3 weights with a scale a row, activations with a dynamic scale a token.

The same quantized weights as the reference has. Inside its call: quantization of x and of h, alignment by expert, both
products, SiLU, router weights and the sum over a token's experts.
"""

from __future__ import annotations

import torch

from harness.kernel_bench.contenders import Contender
from harness.kernel_bench.peers import PeerMissing
from harness.kernel_bench.peers.common import peer, take, tuned_configuration, version
from harness.kernel_bench.shapes import LayerShape


def contenders(shape: LayerShape, device: torch.device) -> list[Contender]:
    """One: FP8 x FP8."""
    if torch.cuda.get_device_capability(device) < (8, 9):
        raise PeerMissing("needs FP8 tensor cores (sm_89 or newer)")
    run, configuration = take(
        "vllm",
        "vllm.model_executor.layers.fused_moe:fused_experts",
        "vllm.model_executor.layers.fused_moe.config:fp8_w8a8_moe_quant_config",
    )

    def pack(gate_up, down):
        scales = {"w1_scale": gate_up.scales, "w2_scale": down.scales}
        return gate_up.codes, down.codes, configuration(**scales, per_act_token_quant=True, per_out_ch_quant=True)

    def bind(packed, x_TD, routed):
        w13, w2, quant = packed
        return lambda: run(x_TD, w13, w2, routed.weights_TK, routed.ids_TK, quant_config=quant)

    tuned = tuned_configuration(shape.num_experts, shape.intermediate, "fp8_w8a8")
    note = f"vLLM {version('vllm')}, Triton fused_experts, a scale a row and a token; {tuned}"
    return [peer("vllm-fp8", "fp8-a8", pack=pack, bind=bind, note=note)]
