"""Check the Triton kernels against the reference on this GPU: `python -m fp4moe.triton.check`.

Every format pair x shape x routing, then routing itself, NaN and replay under a CUDA graph. One JSON object a line; the exit
code is 1 when a line has passed = false. Nothing is timed.

Limits bound |y - reference| / |reference| (Frobenius). Both sides round x alike and multiply exactly; sums differ by their
order, by d of the result, d about 2^-20. Moving h by d before a rounding of step s, as a share of h, leaves sqrt(d s): some
values fall on the other side. BF16 (s = 2^-7): 2^-13, limit 2^-10. FP8 (s = 2^-3): 2^-11, limit 2^-8, except that Hopper's FP8
products keep about 14 bits, d = 2^-12, which leaves 2^-7.5: limit 2^-6. A y in BF16 adds 2^-9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe import reference
from fp4moe.layouts import RowExperts
from fp4moe.quantize.random_codes import random_quantized
from fp4moe.reference.route import Routing
from fp4moe.triton.experts import PAIRS, experts
from fp4moe.triton.route import route

MAX_RELATIVE_ERROR = {"bf16": 2.0**-10, "fp8": 2.0**-8}
FP8_PRODUCT_ERROR = 2.0**-6
BF16_OUTPUT_ERROR = 2.0**-9
MAX_WEIGHT_ERROR = 2.0**-20  # of a router weight: a few units in the last place of float32


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer, and why it is here."""

    reason: str
    num_experts: int
    hidden: int
    intermediate: int
    top_k: int


SHAPES = (
    Shape("odd tails of both reductions", 4, 160, 96, 2),
    Shape("one block a row", 3, 32, 32, 1),
    Shape("more experts than slots", 64, 256, 128, 4),
    Shape("a layer of Mixtral-8x7B", 8, 4096, 14336, 2),
)
TOKENS = (1, 3, 16, 65, 300, 1024)


def random_routing(num_tokens: int, shape: Shape, *, hot: bool) -> Routing:
    """Uniform, or with every token on the same experts first."""
    generator = torch.Generator().manual_seed(num_tokens)
    logits_TE = torch.randn(num_tokens, shape.num_experts, generator=generator)
    if hot:
        logits_TE[:, : shape.top_k] += 100.0
    return reference.route(logits_TE.cuda(), shape.top_k)


def relative_error(found: Tensor, right: Tensor) -> float:
    """Of the norm; infinite where anything is not finite."""
    error = float((found.float() - right.float()).norm() / right.float().norm())
    return error if error == error else float("inf")


def expected(x_TD: Tensor, packed: RowExperts, routing: Routing, activations: str) -> Tensor:
    """The reference in float32."""
    h_SF = reference.gate_up(x_TD.float(), packed.gate_up, routing, activations)
    return reference.down(h_SF, packed.down, routing, activations)


def check_layers(weights: str, activations: str) -> Iterator[dict]:
    """A line for each shape, number of tokens, routing and dtype of x."""
    for shape in SHAPES:
        rows, columns = 2 * shape.intermediate, shape.hidden
        gate_up = random_quantized(weights, (shape.num_experts, rows, columns), seed=1, device="cuda")
        down = random_quantized(weights, (shape.num_experts, columns, shape.intermediate), seed=2, device="cuda")
        packed = RowExperts(gate_up, down)
        for num_tokens in TOKENS:
            for hot in (False, True):
                dtype = torch.bfloat16 if hot else torch.float32
                yield check_layer(packed, shape, num_tokens, activations, dtype=dtype, hot=hot)


def check_layer(
    packed: RowExperts, shape: Shape, num_tokens: int, activations: str, *, dtype: torch.dtype, hot: bool
) -> dict:
    """One comparison."""
    x_TD = torch.randn(num_tokens, shape.hidden, generator=torch.Generator().manual_seed(3)).cuda().to(dtype)
    routing = random_routing(num_tokens, shape, hot=hot)
    error = relative_error(experts(x_TD, packed, routing, activations), expected(x_TD, packed, routing, activations))
    limit = FP8_PRODUCT_ERROR if packed.down.format == "fp8" else MAX_RELATIVE_ERROR[activations]
    limit += BF16_OUTPUT_ERROR if dtype == torch.bfloat16 else 0.0
    return {
        "op": "experts", "reason": shape.reason, "weights": packed.down.format, "activations": activations,
        "shape": [shape.num_experts, shape.hidden, shape.intermediate, shape.top_k], "tokens": num_tokens,
        "routing": "one set of experts" if hot else "uniform", "dtype": str(dtype), "relative_error": error,
        "limit": limit, "passed": error <= limit,
    }  # fmt: skip


def check_route() -> Iterator[dict]:
    """Ids exactly, weights to a few units in the last place."""
    for num_tokens, num_experts, top_k in ((1, 8, 2), (1000, 8, 2), (37, 128, 8), (65, 3, 3)):
        logits_TE = torch.randn(num_tokens, num_experts, generator=torch.Generator().manual_seed(4)).cuda()
        logits_TE[0] = 0.0  # ties
        found, right = route(logits_TE, top_k), reference.route(logits_TE, top_k)
        error = float((found.weights_TK / right.weights_TK - 1).abs().max())
        same = torch.equal(found.ids_TK.long(), right.ids_TK)
        passed = same and error <= MAX_WEIGHT_ERROR
        shape = [num_tokens, num_experts, top_k]
        yield {"op": "route", "shape": shape, "relative_error": error, "same_ids": same, "passed": passed}


def check_nan_and_graph(weights: str, activations: str) -> Iterator[dict]:
    """NaN stays in its token; a captured graph replays to the same bits on new inputs."""
    shape, num_tokens = SHAPES[0], 40
    gate_up = random_quantized(weights, (shape.num_experts, 2 * shape.intermediate, shape.hidden), seed=1, device="cuda")
    down = random_quantized(weights, (shape.num_experts, shape.hidden, shape.intermediate), seed=2, device="cuda")
    packed, routing = RowExperts(gate_up, down), random_routing(num_tokens, shape, hot=False)
    x_TD = torch.randn(num_tokens, shape.hidden, generator=torch.Generator().manual_seed(5)).cuda()
    clean = experts(x_TD, packed, routing, activations)
    x_TD[7, 3] = float("nan")
    eager = experts(x_TD, packed, routing, activations)
    others = torch.arange(num_tokens, device="cuda") != 7
    passed = bool(eager[7].isnan().all()) and torch.equal(eager[others], clean[others])
    yield {"op": "nan", "weights": weights, "activations": activations, "passed": passed}
    graph, static_x_TD = torch.cuda.CUDAGraph(), torch.zeros_like(x_TD)
    with torch.cuda.graph(graph):
        replayed = experts(static_x_TD, packed, routing, activations)
    static_x_TD.copy_(x_TD)
    graph.replay()
    passed = torch.equal(replayed.nan_to_num(7.0), eager.nan_to_num(7.0))
    yield {"op": "graph", "weights": weights, "activations": activations, "passed": passed}


def main() -> None:
    """Print every line; exit with 1 if one did not pass."""
    if not torch.cuda.is_available():
        sys.exit("triton check: needs a CUDA GPU and none was found; the tests check the same kernels in Triton's interpreter")
    torch.backends.cuda.matmul.allow_tf32 = False
    capability = torch.cuda.get_device_capability()
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "capability": capability, "torch": torch.__version__}))
    pairs = [pair for pair in PAIRS if pair[1] != "fp8" or capability >= (8, 9)]
    checks = [check_route(), *(check(*pair) for pair in pairs for check in (check_nan_and_graph, check_layers))]
    num_failed = 0
    for line in (line for check in checks for line in check):
        print(json.dumps(line), flush=True)
        num_failed += not line["passed"]
    print(json.dumps({"failed": num_failed}))
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
