"""triton_kernels (as vLLM bundles it): MXFP4 x BF16 through matmul_ogs.

Its fused activation is gpt-oss's clamped SwiGLU over interleaved gate and up rows, not Mixtral's SiLU, so its output
cannot be held against the reference. Sorting by expert runs inside the timed region, from the same ids as everybody's:
vLLM's make_routing_data. Both products, activation, router weights and the sum are inside too.
"""

from __future__ import annotations

import sys

import torch

from harness.kernel_bench.contenders import Contender
from harness.kernel_bench.peers import PeerMissing
from harness.kernel_bench.peers.common import first_line, peer, take, version
from harness.kernel_bench.shapes import LayerShape

NOT_CHECKED = "not checked: its fused activation is gpt-oss's clamped SwiGLU, not SiLU"
SWIGLU = (1.702, 7.0)  # alpha and limit of gpt-oss
NUM_WARPS = 8
ROUTING = (
    "vllm.model_executor.layers.fused_moe.experts.gpt_oss_triton_kernels_moe:make_routing_data",
    "vllm.model_executor.layers.fused_moe.gpt_oss_triton_kernels_moe:make_routing_data",
)


def contenders(shape: LayerShape, device: torch.device) -> list[Contender]:
    """One: MXFP4 x BF16."""
    ogs, swiglu, swizzle, make_routing = _parts()
    activation = ogs.FusedActivation(ogs.FnSpecs("swiglu", swiglu.swiglu_fn, ("alpha", "limit")), SWIGLU, 2)

    def pack_one(weight):
        codes, flex, scales = swizzle(weight.codes, weight.scales, NUM_WARPS)
        return codes, ogs.PrecisionConfig(weight_scale=scales, flex_ctx=ogs.FlexCtx(rhs_data=flex))

    def bind(packed, x_TD, routed):
        (w13, p13), (w2, p2) = packed

        def run():
            data, gather, scatter = make_routing(routed.ids_TK, routed.weights_TK, routed.num_experts)
            first = {"gather_indx": gather, "precision_config": p13, "fused_activation": activation}
            h_SF = ogs.matmul_ogs(x_TD, w13, None, data, **first)
            second = {"scatter_indx": scatter, "precision_config": p2, "gammas": data.gate_scal}
            return ogs.matmul_ogs(h_SF, w2, None, data, **second)

        return run

    note = f"triton_kernels in vLLM {version('vllm')}, matmul_ogs; gpt-oss's SwiGLU"
    pack = lambda gate_up, down: (pack_one(gate_up), pack_one(down))  # noqa: E731
    return [peer("triton-kernels", "mxfp4-a16", pack=pack, bind=bind, note=note, not_checked=NOT_CHECKED)]


def _parts():
    """The bundled package under the name that its own modules import."""
    (bundled,) = take("vllm", "vllm.third_party.triton_kernels")
    sys.modules.setdefault("triton_kernels", bundled)
    ogs, swiglu, swizzle = take(
        "vllm",
        "triton_kernels.matmul_ogs",
        "triton_kernels.swiglu",
        "vllm.model_executor.layers.quantization.utils.mxfp4_utils:_swizzle_mxfp4",
    )
    problem: PeerMissing | None = None
    for name in ROUTING:
        try:
            return ogs, swiglu, swizzle, take("vllm", name)[0]
        except PeerMissing as error:
            problem = error
    raise PeerMissing(f"sorting by expert from given ids cannot be had: {first_line(problem)}")
