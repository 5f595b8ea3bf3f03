"""vLLM's Marlin: NVFP4 x BF16, weight-only, the same quantized weights repacked.

Inside its call: alignment by expert, both products, SiLU, router weights and the sum over a token's experts.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from harness.kernel_bench.contenders import Contender
from harness.kernel_bench.peers.common import peer, take, version
from harness.kernel_bench.shapes import LayerShape


def contenders(shape: LayerShape, device: torch.device) -> list[Contender]:
    """One: NVFP4 x BF16."""
    run, prepare, types = take(
        "vllm",
        "vllm.model_executor.layers.fused_moe.experts.marlin_moe:fused_marlin_moe",
        "vllm.model_executor.layers.quantization.utils.marlin_utils_fp4:prepare_nvfp4_moe_layer_for_marlin",
        "vllm.scalar_type:scalar_types",
    )

    def pack(gate_up, down):
        layer = SimpleNamespace(
            num_experts=shape.num_experts,
            hidden_size=shape.hidden,
            intermediate_size_per_partition=shape.intermediate,
            params_dtype=torch.bfloat16,
        )
        # Its preparation may scale what it is given in place, so it gets copies of the scales.
        gate_up_parts = gate_up.codes, gate_up.scales.clone(), gate_up.tensor_scale.clone()
        down_parts = down.codes, down.scales.clone(), down.tensor_scale.clone()
        return prepare(layer, *gate_up_parts, *down_parts, True)

    def bind(packed, x_TD, routed):
        w13, s13, g13, w2, s2, g2 = packed
        scales = {"global_scale1": g13, "global_scale2": g2, "quant_type_id": types.float4_e2m1f.id}
        ids_TK, weights_TK = routed.ids_TK, routed.weights_TK
        return lambda: run(x_TD, w13, w2, None, None, s13, s2, weights_TK, ids_TK, **scales)

    return [peer("vllm-marlin", "nvfp4-a16", pack=pack, bind=bind, note=f"vLLM {version('vllm')}, fused_marlin_moe")]
