"""Logits of whole sequences through the GPU's kernels: quality under exactly what is timed.

In: token ids [B, T]. Out: causal logits float32 [B, T, V], as `MixtralModel.score` gives them in the reference's arithmetic.
Records phase "score", `request` = row. No cache; for windows of a text, not for serving.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.runtime.gpu.attention import PackedPrompts
from fp4moe.runtime.gpu.passes import DecoderPasses
from fp4moe.runtime.gpu.segment import Segment
from fp4moe.runtime.recorder import RoutingRecorder


@torch.inference_mode()
def score(passes: DecoderPasses, tokens_BT: Tensor, recorder: RoutingRecorder | None = None) -> Tensor:
    """`tokens_BT` has at most as many columns as `passes` has positions."""
    batch, length = tokens_BT.shape
    count = batch * length
    with ranges.range("score", tokens=count):
        windows = PackedPrompts.of(passes.config, passes.cos_sin, [Segment(0, 0, length)] * batch, None)
        plan = passes.recorded(count)
        tokens_T = tokens_BT.flatten().to(passes.device, torch.int32)
        logits_TV = passes.logits(passes.hidden(tokens_T, None, count, windows, plan))
        if recorder is not None:
            ids_NLK = plan.recorded_LTK.cpu().numpy().transpose(1, 0, 2)
            rows = torch.arange(batch).repeat_interleave(length).tolist()
            recorder.add_step("score", recorder.num_steps, ids_NLK, requests=rows)
    return logits_TV.unflatten(0, (batch, length))
