"""Check the Hopper kernels against the reference on this GPU: `python -m fp4moe.cuda.check [--small | --tiny] [--only NAME]`.

Every kernel (fragments, e4m3) x format x shape x width of tile x routing, then NaN and replay under a CUDA graph. One JSON
object a line; the exit code is 1 when a line has passed = false. Nothing is timed. `--small` leaves out the layer of
Mixtral-8x7B; `--tiny` takes one launch of each width on the smallest shape, for compute-sanitizer, which slows a kernel a
thousandfold.

What e4m3 is held against: check_e4m3.py. The limit of fragments bounds |y - reference| / |reference| (Frobenius), the
reference in float32 on the same operands: h is rounded to BF16 by both, so a few land on the other side of a rounding (2^-13,
see triton/check.py); sums are float32: far below 2^-9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from fp4moe import reference
from fp4moe.cuda import check_e4m3, e4m3, fragments
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize.random_codes import random_quantized
from fp4moe.reference.route import Routing

LIMIT = 2.0**-9
# Most tokens of a tile, and whether warpgroups of a narrow one lie along k too.
TILES = ((8, True), (8, False), (16, True), (16, False), (24, True), (24, False), (64, True), (128, True))
# (experts, hidden, intermediate, top-k): fewer rows than blocks, odd numbers of chunks, more experts than slots.
SMALL_SHAPES = ((8, 256, 128, 2), (4, 384, 256, 2), (64, 128, 2304, 4), (2, 512, 640, 1))
MIXTRAL = (8, 4096, 14336, 2)
TOKENS = (1, 2, 7, 9, 33, 129, 300)
TINY_SHAPE, TINY_TOKENS = (2, 128, 128, 1), (5,)


def random_layer(name: str, shape: tuple[int, int, int, int]) -> tuple[QuantizedTensor, QuantizedTensor]:
    """gate_up [E, 2F, D] and down [E, D, F] with random codes, on the GPU."""
    experts, hidden, intermediate, _ = shape
    gate_up = random_quantized(name, (experts, 2 * intermediate, hidden), seed=1, device="cuda")
    return gate_up, random_quantized(name, (experts, hidden, intermediate), seed=2, device="cuda")


def random_routing(num_tokens: int, num_experts: int, top_k: int, *, hot: bool) -> Routing:
    """Uniform, or with every token on the same experts."""
    logits_TE = torch.randn(num_tokens, num_experts, generator=torch.Generator().manual_seed(num_tokens))
    if hot:
        logits_TE[:, :top_k] += 100.0
    return reference.route(logits_TE.cuda(), top_k)


def random_tokens(num_tokens: int, hidden: int) -> Tensor:
    """BF16 [T, D]."""
    return torch.randn(num_tokens, hidden, generator=torch.Generator().manual_seed(num_tokens)).cuda().bfloat16()


def run(x_TD: Tensor, packed: fragments.FragmentExperts, routing: Routing, tile: int, splits_k: bool) -> Tensor:
    """One launch into an output full of NaN."""
    out = torch.full_like(x_TD, float("nan"), dtype=torch.float32)
    fragments.launch(x_TD, routing.ids_TK.int(), routing.weights_TK, packed, out=out, tile=tile, splits_k=splits_k)
    return out


def check_fragments(name: str, shape: tuple[int, int, int, int], counts: tuple[int, ...]) -> Iterator[dict]:
    """A line for each number of tokens, routing and width of tile."""
    gate_up, down = random_layer(name, shape)
    packed = fragments.pack(gate_up, down)
    for num_tokens in counts:
        for hot in (False, True):
            x_TD, routing = random_tokens(num_tokens, shape[1]), random_routing(num_tokens, shape[0], shape[3], hot=hot)
            right = reference.down(reference.gate_up(x_TD.float(), gate_up, routing, "bf16"), down, routing, "bf16")
            for tile, splits_k in TILES:
                error = float((run(x_TD, packed, routing, tile, splits_k).float() - right).norm() / right.norm())
                yield {
                    "kernel": "fragments", "weights": name, "shape": shape, "tokens": num_tokens, "tile": tile,
                    "splits_k": splits_k, "routing": "one set of experts" if hot else "uniform",
                    "relative_error": error, "limit": LIMIT, "passed": error <= LIMIT,
                }  # fmt: skip


def check_fp8(name: str, shape: tuple[int, int, int, int], counts: tuple[int, ...]) -> Iterator[dict]:
    """A line for each number of tokens, routing, width of tile, dtype of x and stage."""
    packed, rows = check_e4m3.both(*random_layer(name, shape))
    for num_tokens in counts:
        for hot in (False, True):
            routing = random_routing(num_tokens, shape[0], shape[3], hot=hot)
            for tile in check_e4m3.TILES:
                x_TD = random_tokens(num_tokens, shape[1]).to(torch.bfloat16 if tile == e4m3.WIDE_TOKENS else torch.float32)
                for stage, error, limit in check_e4m3.layer(x_TD, packed, rows, routing, tile):
                    yield {
                        "kernel": "e4m3", "weights": name, "shape": shape, "tokens": num_tokens, "tile": tile,
                        "routing": "one set of experts" if hot else "uniform", "stage": stage,
                        "relative_error": error, "limit": limit, "passed": error <= limit,
                    }  # fmt: skip


def check_nan_and_graph(name: str, kernels: tuple[str, ...]) -> Iterator[dict]:
    """NaN stays in its token; a captured graph replays on new inputs, again and again."""
    shape = SMALL_SHAPES[0]
    layer, routing = random_layer(name, shape), random_routing(40, shape[0], shape[3], hot=False)
    x_TD, others = random_tokens(40, shape[1]), torch.arange(40, device="cuda") != 7
    calls = {"fragments": (fragments.decode, fragments.rows, fragments.grouped), "e4m3": (e4m3.experts,)}
    for kernel in (call for name in kernels for call in calls[name]):
        is_fp8 = kernel is e4m3.experts
        packed, activations = (e4m3.pack(*layer), "fp8") if is_fp8 else (fragments.pack(*layer), "bf16")
        clean = kernel(x_TD, packed, routing, activations)
        poisoned_TD = x_TD.clone()
        poisoned_TD[7, 3] = float("nan")
        found = kernel(poisoned_TD, packed, routing, activations)
        close = (found[others].float() - clean[others].float()).norm() <= LIMIT * clean[others].float().norm()
        label = {"weights": name, "kernel": f"{kernel.__module__.split('.')[-1]}.{kernel.__name__}"}
        yield {"op": "nan", **label, "passed": bool(found[7].isnan().all() and close)}
        graph, static_TD = torch.cuda.CUDAGraph(), torch.zeros_like(x_TD)
        with torch.cuda.graph(graph):
            replayed = kernel(static_TD, packed, routing, activations)
        static_TD.copy_(x_TD)
        for _ in range(3):
            graph.replay()
        error = float((replayed.float() - clean.float()).norm() / clean.float().norm())
        yield {"op": "graph", **label, "relative_error": error, "passed": error <= LIMIT}


def checks(arguments: list[str]) -> Iterator[Iterator[dict]]:
    """What the command line asks for."""
    kernels = {"fragments": check_fragments, "e4m3": check_fp8}
    if "--only" in arguments:
        wanted = arguments[arguments.index("--only") + 1]
        kernels = {name: check for name, check in kernels.items() if name == wanted}
    shapes = SMALL_SHAPES if "--small" in arguments else (*SMALL_SHAPES, MIXTRAL)
    for name in ("nvfp4", "mxfp4", "fp8"):
        taking = {own: check for own, check in kernels.items() if name != "fp8" or own == "e4m3"}
        if "--tiny" in arguments:
            yield from (check(name, TINY_SHAPE, TINY_TOKENS) for check in taking.values())
            continue
        yield check_nan_and_graph(name, tuple(taking))
        yield from (check(name, shape, TOKENS) for check in taking.values() for shape in shapes)


def main() -> None:
    """Print every line; exit with 1 if one did not pass."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        sys.exit("cuda check: needs a GPU of sm_90 and none was found; the tests compile the kernel and check its layout")
    torch.backends.cuda.matmul.allow_tf32 = False
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))
    num_failed = num_lines = 0
    for line in (line for lines in checks(sys.argv[1:]) for line in lines):
        print(json.dumps(line), flush=True)
        num_failed, num_lines = num_failed + (not line["passed"]), num_lines + 1
    print(json.dumps({"lines": num_lines, "failed": num_failed}))
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
