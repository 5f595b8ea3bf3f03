"""The MoE layer for few tokens through nvfp4_decode_sm90.cu: NVFP4 weights x BF16 activations.

In: weights laid out once by `Nvfp4DecodeExperts.pack`, x BF16 [M, D], expert ids and gate weights [M, k].
Out: y BF16 [M, D]. No host synchronization, so it can be captured in a CUDA graph.
Shapes: M tokens, k experts a token, E experts, D hidden, F intermediate.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe.cuda.build import load
from fp4moe.cuda.nvfp4_layout import folded_tensor_scale, pack_down, pack_gate_up
from fp4moe.errors import Fp4MoeError
from fp4moe.layouts import QuantizedTensor

SOURCE = "nvfp4_decode_sm90.cu"
TARGET = "90a"
MAX_SLOTS = 256
MAX_EXPERTS = 64
MAX_HIDDEN = 4096


@dataclass(frozen=True, slots=True)
class Nvfp4DecodeExperts:
    """The experts of one layer in the kernel's layout."""

    gate_up: Tensor
    down: Tensor
    gate_up_scale: Tensor
    down_scale: Tensor
    num_experts: int
    hidden: int
    intermediate: int

    @classmethod
    def pack(cls, gate_up: QuantizedTensor, down: QuantizedTensor) -> Nvfp4DecodeExperts:
        """gate_up [E, 2F, D], down [E, D, F]; FormatError where the kernel cannot take the shape."""
        experts, hidden, intermediate = down.shape
        if hidden > MAX_HIDDEN or experts > MAX_EXPERTS:
            raise Fp4MoeError(
                f"nvfp4 decode: needs hidden <= {MAX_HIDDEN} and experts <= {MAX_EXPERTS} (got {hidden} and {experts})"
            )
        scales = folded_tensor_scale(gate_up), folded_tensor_scale(down)
        return cls(pack_gate_up(gate_up), pack_down(down), *scales, experts, hidden, intermediate)


class Nvfp4Decode:
    """Scratch memory of the kernel on one device, shared by all layers of one shape; one stream at a time."""

    def __init__(self, hidden: int, intermediate: int, top_k: int, *, device: torch.device) -> None:
        max_tokens = MAX_SLOTS // top_k
        self._top_k, self._device = top_k, device
        self._h = torch.empty(MAX_SLOTS, intermediate, dtype=torch.bfloat16, device=device)
        self._y_sum = torch.empty(max_tokens, hidden, dtype=torch.float32, device=device)
        self._barrier = torch.zeros(1, dtype=torch.int64, device=device)
        self._num_blocks = torch.cuda.get_device_properties(device).multi_processor_count
        self._launch = load(SOURCE, TARGET).fp4moe_nvfp4_decode_sm90
        self._launch.argtypes = [ctypes.c_void_p] * 11 + [ctypes.c_int] * 6 + [ctypes.c_void_p]

    def __call__(self, x: Tensor, ids: Tensor, gates: Tensor, experts: Nvfp4DecodeExperts, out: Tensor) -> Tensor:
        """x BF16 [M, D], ids int32 [M, k], gates float32 [M, k] -> out BF16 [M, D]; all contiguous, on the device."""
        num_tokens = x.shape[0]
        if not 0 < num_tokens * self._top_k <= MAX_SLOTS:
            raise Fp4MoeError(f"nvfp4 decode: takes 1 to {MAX_SLOTS // self._top_k} tokens (got {num_tokens})")
        tensors = (experts.gate_up, experts.down, experts.gate_up_scale, experts.down_scale, x, ids, gates)
        scratch = (self._h, self._y_sum, out, self._barrier)
        sizes = (num_tokens, self._top_k, experts.num_experts, experts.hidden, experts.intermediate, self._num_blocks)
        stream = torch.cuda.current_stream(self._device).cuda_stream
        error = self._launch(*(t.data_ptr() for t in (*tensors, *scratch)), *sizes, stream)
        if error != 0:
            raise Fp4MoeError(f"nvfp4 decode: launch failed with CUDA error {error}")
        return out
