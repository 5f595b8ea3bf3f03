"""humming-kernels: NVFP4 x BF16 and MXFP4 x BF16, the same quantized weights loaded as a checkpoint's.

Two products with their own heuristic configuration; a token alignment for each product's own block size, since one shared
alignment lets it read out of bounds from some token count on. Alignment (vLLM's), SiLU (vLLM's), the router weights and
the sum over a token's experts run inside the timed region.
"""

from __future__ import annotations

import json

import torch

from harness.kernel_bench.contenders import Contender
from harness.kernel_bench.peers.common import peer, take, version
from harness.kernel_bench.shapes import LayerShape

CHECKPOINT = {
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "mxfp4": {"quant_method": "mxfp4"},
}
COMPUTE = json.dumps({"gemm_type": "indexed", "use_f16_accum": False, "use_batch_invariant": False})


def contenders(shape: LayerShape, device: torch.device) -> list[Contender]:
    """Two: NVFP4 and MXFP4, x BF16."""
    layer_class, heuristics = take("humming-kernels", "humming.layer:HummingLayer", "humming.tune:get_heuristics_config")
    align, _ = take(
        "vllm",
        "vllm.model_executor.layers.fused_moe.moe_align_block_size:moe_align_block_size",
        "vllm._custom_ops",
    )
    note = f"humming-kernels {version('humming-kernels')}, heuristic configuration"
    made = []
    for weights in CHECKPOINT:
        pack, bind = _packer(layer_class, weights, device), _binder(heuristics, align, shape)
        made.append(peer("humming", f"{weights}-a16", pack=pack, bind=bind, note=note))
    return made


def _packer(layer_class, weights: str, device: torch.device):
    def pack_one(weight):
        experts, rows, columns = weight.shape
        layer = layer_class(
            shape_n=rows,
            shape_k=columns,
            num_experts=experts,
            weight_config=dict(CHECKPOINT[weights]),
            torch_dtype=torch.bfloat16,
        ).to(device)
        tensors = {"weight": weight.codes, "weight_scale": weight.scales}
        if weight.tensor_scale is not None:
            tensors["weight_scale_2"] = weight.tensor_scale
        layer.load_from_tensors(tensors)
        layer.transform()
        return layer

    return lambda gate_up, down: (pack_one(gate_up), pack_one(down))


def _binder(heuristics, align, shape: LayerShape):
    def bind(packed, x_TD, routed):
        layers = packed
        slots = routed.ids_TK.numel()
        tuned = [heuristics(layer.humming_config, gemm_type="indexed") for layer in layers]
        blocks = [next(c["block_shape"][0] for low, high, c in table if low < slots <= high) for table in tuned]
        configs = [{"valid_shape_m": slots, "compute_config": COMPUTE, "tuning_config": json.dumps(t)} for t in tuned]

        def run():
            first = align(routed.ids_TK, blocks[0], shape.num_experts, None)
            second = first if blocks[0] == blocks[1] else align(routed.ids_TK, blocks[1], shape.num_experts, None)
            up = layers[0](x_TD, **_sorted(first), top_k=shape.top_k, **configs[0])
            h_SF = torch.empty(slots, shape.intermediate, dtype=x_TD.dtype, device=x_TD.device)
            torch.ops._C.silu_and_mul(h_SF, up.view(slots, 2 * shape.intermediate))
            y_SD = layers[1](h_SF, **_sorted(second), top_k=1, **configs[1])
            return (y_SD.view(-1, shape.top_k, shape.hidden) * routed.weights_TK.unsqueeze(-1)).sum(1).to(x_TD.dtype)

        return run

    return bind


def _sorted(aligned) -> dict:
    sorted_ids, expert_ids, num_padded = aligned
    return {"sorted_ids": sorted_ids, "expert_ids": expert_ids, "num_tokens_padded": num_padded}
