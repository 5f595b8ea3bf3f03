"""Check and time the NVFP4 decode kernel on this GPU: `python -m fp4moe.cuda.measure_decode`.

Correctness first: against float32 on the dequantized weights, uniform and skewed routing; a shape that fails is not timed.
Then microseconds a layer of the Mixtral-8x7B shape by CUDA-graph replay over copies of the layer that do not fit the L2,
beside the limit (bytes of the experts hit over the read bandwidth measured in the same run). One JSON object a line.
Random codes and scales: speed does not depend on the values, and correctness is checked on the same ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from fp4moe.cuda.build import SOURCES
from fp4moe.cuda.nvfp4_decode import SOURCE, Nvfp4Decode, Nvfp4DecodeExperts
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import dequantize

NUM_EXPERTS, HIDDEN, INTERMEDIATE, TOP_K = 8, 4096, 14336, 2
NUM_COPIES = 4
REPLAYS = 15
MAX_RELATIVE_ERROR = 5e-3  # h and y are rounded to BF16 (2^-9 each), the rest is exact or float32
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128)
SMALL_SHAPES = ((8, 256, 128), (4, 384, 256), (16, 128, 2304))


def random_weights(num_experts: int, rows: int, k: int, seed: int) -> QuantizedTensor:
    """NVFP4 [E, rows, k] with random codes and scales."""
    generator = torch.Generator("cuda").manual_seed(seed)
    draw = {"device": "cuda", "dtype": torch.uint8, "generator": generator}
    codes = torch.randint(0, 256, (num_experts, rows, k // 2), **draw)
    scales = torch.randint(0x28, 0x48, (num_experts, rows, k // 16), **draw).view(torch.float8_e4m3fn)
    tensor_scale = 0.005 + 0.01 * torch.rand(num_experts, device="cuda", generator=generator)
    return QuantizedTensor("nvfp4", "absmax", (num_experts, rows, k), codes, scales, tensor_scale)


def random_routing(num_tokens: int, num_experts: int, seed: int, *, num_hot: int = 0) -> tuple[Tensor, Tensor]:
    """(ids int32 [M, 2], gates [M, 2]); with `num_hot` experts taking nearly everything."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.ones(num_experts)
    chance[:num_hot] = 1e6
    ids = torch.multinomial(chance.expand(num_tokens, -1), TOP_K, generator=generator).int()
    gates = torch.rand(num_tokens, TOP_K, generator=generator) + 0.1
    return ids.cuda(), (gates / gates.sum(1, keepdim=True)).cuda()


def expected(x: Tensor, ids: Tensor, gates: Tensor, gate_up: QuantizedTensor, down: QuantizedTensor) -> Tensor:
    """The layer in float32 on dequantized weights, h rounded to BF16."""
    y = torch.zeros(x.shape, device="cuda")
    for expert in range(down.shape[0]):
        token, slot = (ids == expert).nonzero(as_tuple=True)
        gate, up = (x[token].float() @ dequantize(gate_up[expert]).T).chunk(2, dim=-1)
        h = (F.silu(gate) * up).bfloat16().float()
        y.index_add_(0, token, (h @ dequantize(down[expert]).T) * gates[token, slot, None])
    return y


def check(shape: tuple[int, int, int]) -> tuple[float, Nvfp4DecodeExperts, Nvfp4Decode]:
    """Worst relative error over token counts and routings, and what was packed."""
    num_experts, hidden, intermediate = shape
    gate_up = random_weights(num_experts, 2 * intermediate, hidden, seed=1)
    down = random_weights(num_experts, hidden, intermediate, seed=2)
    experts = Nvfp4DecodeExperts.pack(gate_up, down)
    run = Nvfp4Decode(hidden, intermediate, TOP_K, device=torch.device("cuda"))
    worst = 0.0
    for num_tokens in (1, 2, 7, 9, 17, 33, 128):
        for num_hot in (0, 2):
            x = torch.randn(num_tokens, hidden, device="cuda").bfloat16()
            ids, gates = random_routing(num_tokens, num_experts, num_tokens, num_hot=num_hot)
            out = run(x, ids, gates, experts, torch.full_like(x, float("nan")))
            right = expected(x, ids, gates, gate_up, down)
            error = float((out.float() - right).norm() / right.norm())
            worst = max(worst, error if error == error else float("inf"))
    return worst, experts, run


def microseconds(function: Callable[[], object]) -> float:
    """Median of graph replays of `function`."""
    function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    times = []
    for _ in range(REPLAYS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return median(times)


def read_ceiling_gb_s() -> float:
    """Bandwidth of summing 2 GiB."""
    data = torch.empty(2**29, device="cuda").normal_()
    return data.numel() * 4 / microseconds(data.sum) / 1e3


def time_layer(experts: Nvfp4DecodeExperts, run: Nvfp4Decode, num_tokens: int, ceiling_gb_s: float) -> dict:
    """One row: microseconds a layer, experts hit, limit."""
    copies = [
        dataclasses.replace(experts, gate_up=experts.gate_up.clone(), down=experts.down.clone()) for _ in range(NUM_COPIES)
    ]
    routings = [random_routing(num_tokens, NUM_EXPERTS, 100 + 10 * num_tokens + copy) for copy in range(NUM_COPIES)]
    x = torch.randn(num_tokens, HIDDEN, device="cuda").bfloat16()
    out = torch.empty_like(x)
    us = microseconds(lambda: [run(x, *routing, copy, out) for routing, copy in zip(routings, copies, strict=True)])
    num_hit = sum(len(ids.unique()) for ids, _ in routings) / NUM_COPIES
    expert_bytes = (experts.gate_up.numel() + experts.down.numel()) / NUM_EXPERTS
    limit_us = num_hit * expert_bytes / ceiling_gb_s / 1e3
    us /= NUM_COPIES
    row = {"tokens": num_tokens, "experts_hit": num_hit, "us": us, "limit_us": limit_us, "ratio": us / limit_us}
    return {name: round(value, 3) for name, value in row.items()}


def main() -> None:
    """Check the small shapes and the Mixtral-8x7B shape, then time the latter."""
    source = hashlib.sha256((SOURCES / SOURCE).read_bytes()).hexdigest()
    host = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    print(json.dumps(host | {"precision": "nvfp4 x bf16", "source": SOURCE, "source_sha256": source}))
    for shape in (*SMALL_SHAPES, (NUM_EXPERTS, HIDDEN, INTERMEDIATE)):
        error, experts, run = check(shape)
        print(json.dumps({"shape": shape, "relative_error": error, "passed": error <= MAX_RELATIVE_ERROR}), flush=True)
        if error > MAX_RELATIVE_ERROR:
            raise SystemExit("wrong output: no speed")
    ceiling = read_ceiling_gb_s()
    print(json.dumps({"read_ceiling_gb_s": round(ceiling)}))
    for num_tokens in TOKENS:
        print(json.dumps(time_layer(experts, run, num_tokens, ceiling)), flush=True)


if __name__ == "__main__":
    main()
