"""Every kernel of this package compiled for a GPU that is not there, and what the result says about itself.

In: a kernel's key and a capability, "sm_90". Out: Triton's compiled object (`.asm["ptx"]`, `.metadata.shared`, ...) with the
tile sizes and types that experts.py would launch there; sizes that a run knows are taken as multiples of 16, as a real
model's are. Then: registers and bytes spilled, and the instructions of the binary, by the tools in Triton's wheel. Needs no GPU
and runs nothing. Not under the interpreter.

Keys: "route", "sort", "rows/bf16", "rows/fp8", "combine", "decoder/<kernel>" (decoder/builds.py), and for the grouped product
"gate_up/<weights>/<activations>/<slots a tile>" and "down/..." likewise.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.triton.build import Build
from fp4moe.triton.combine import combine_kernel
from fp4moe.triton.decoder.builds import decoder_builds
from fp4moe.triton.experts import PAIRS
from fp4moe.triton.gemm import grouped_gemm_kernel
from fp4moe.triton.gemm_launch import FP4, kernel_options
from fp4moe.triton.route import route_kernel
from fp4moe.triton.rows import bf16_rows_kernel, e4m3_rows_kernel
from fp4moe.triton.sort import sort_kernel
from fp4moe.triton.tiles import tiles

CAPABILITIES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
_FIRST_WITH_E4M3 = 89
_LAUNCH_OPTIONS = ("num_warps", "num_stages", "launch_pdl")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.x]+)")
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes of a device: registers a thread, bytes of stack a thread, bytes of shared memory a block."""

    registers: int
    stack_bytes: int
    shared_bytes: int


def keys(capability: str) -> tuple[str, ...]:
    """Every kernel that may be launched on the capability."""
    return tuple(_builds(Capability.parse(capability)))


def compile_for(key: str, capability: str) -> Any:
    """The compiled kernel; SelectionError for a key that this capability does not have."""
    device = Capability.parse(capability)
    builds = _builds(device)
    if key not in builds:
        raise SelectionError(f"triton {key!r}: not a kernel for {capability}; there are {', '.join(builds)}")
    build = builds[key]
    names = build.kernel.arg_names
    constants = {name: value for name, value in build.options.items() if name not in _LAUNCH_OPTIONS}
    source = ASTSource(
        fn=build.kernel,
        signature={name: build.types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in build.types if name not in _ODD},
    )
    options = {name: build.options[name] for name in _LAUNCH_OPTIONS if name in build.options}
    return triton.compile(source, target=GPUTarget("cuda", device.number, 32), options=options)


def resources(compiled: Any) -> Resources:
    """What the binary says it takes (cuobjdump)."""
    report = _run_tool("cuobjdump", "-res-usage", compiled.asm["cubin"])
    found = re.search(r"REG:(\d+) STACK:(\d+)", report)
    return Resources(int(found.group(1)), int(found.group(2)), compiled.metadata.shared)


def main_loop(compiled: Any) -> tuple[str, ...]:
    """The operations of the loop with most tensor core instructions, "HGMMA.64x16x16.F32.BF16" among them (nvdisasm)."""
    labels, operations, best = {}, [], ()
    for line in _run_tool("nvdisasm", "-c", compiled.asm["cubin"]).splitlines():
        if label := re.match(r"\s*\.(L_x_\d+):", line):
            labels[label.group(1)] = len(operations)
        if not (found := _INSTRUCTION.match(line)):
            continue
        operations.append(found.group(1))
        target = re.search(r"\bBRA\b.*`\(\.(L_x_\d+)\)", line)
        if target and target.group(1) in labels:
            best = max(best, tuple(operations[labels[target.group(1)] :]), key=num_tensor_core_operations)
    return best


def num_tensor_core_operations(operations: tuple[str, ...]) -> int:
    """How many of them multiply matrices."""
    return sum("MMA" in operation for operation in operations)


def _run_tool(name: str, option: str, binary: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        return subprocess.run([str(_TOOLS / name), option, str(path)], capture_output=True, text=True, check=True).stdout


# Arguments whose value a run does not choose to be a multiple of 16.
_ODD = ("num_tokens", "num_slots", "slots_a_row", "max_tiles", "expert_stride", "factor_expert_stride", "factor_row_stride",
        "layer", "num_layers", "imposed_rows", "recorded_stride", "eps", "scale")
_SIZES = ("num_slots", "slots_a_row", "num_columns", "y_width", "k_size", "codes_a_row", "scales_a_row", "x_width", "max_tiles")
_GEMM_TYPES = {
    **dict.fromkeys(("slot_of_row_ptr", "expert_of_tile_ptr"), "*i32"),
    **dict.fromkeys(("router_ptr", "x_scale_ptr", "factor_ptr"), "*fp32"),
    **dict.fromkeys((*_SIZES, "factor_expert_stride", "factor_row_stride"), "i32"),
}
_CODES = {"nvfp4": "*i32", "mxfp4": "*i32", "fp8": "*fp8e4nv", "bf16": "*bf16"}


def _builds(device: Capability) -> dict[str, Build]:
    has_e4m3 = device.number >= _FIRST_WITH_E4M3
    builds = dict(_small_builds(has_e4m3)) | decoder_builds(is_overlapped=device.number >= 90)
    for weights, activations in PAIRS:
        if activations == "fp8" and not has_e4m3:
            continue
        for tile in tiles(weights, device):
            for product in ("gate_up", "down"):
                is_gated = product == "gate_up"
                options = kernel_options(weights, activations, tile, is_gated=is_gated, is_even_k=True)
                types = _gemm_types(weights, activations, is_gated=is_gated)
                builds[f"{product}/{weights}/{activations}/{tile.block_m}"] = Build(grouped_gemm_kernel, types, options)
    return builds


def _gemm_types(weights: str, activations: str, *, is_gated: bool) -> dict[str, str]:
    h = "*bf16" if activations == "bf16" else "*fp32"
    return _GEMM_TYPES | {
        "x_ptr": "*fp8e4nv" if weights == "fp8" else "*bf16",
        "codes_ptr": _CODES[weights],
        "scales_ptr": "*u8" if weights in FP4 else _CODES[weights],
        "y_ptr": h if is_gated else "*fp32",
    }


def _small_builds(has_e4m3: bool) -> dict[str, Build]:
    rows = {"x_ptr": "*bf16", "num_columns": "i32", "row_stride": "i32", "width": "i32"}
    row_options = {"PERMUTE": True, "BLOCK": 1024, "num_warps": 4}
    route = {"logits_ptr": "*fp32", "ids_ptr": "*i32", "weights_ptr": "*fp32", "num_tokens": "i32", "token_stride": "i32"}
    route_options = {"NUM_EXPERTS": 8, "TOP_K": 2, "BLOCK_T": 16, "BLOCK_E": 8, "BLOCK_K": 2, "num_warps": 4}
    sort = {"ids_ptr": "*i32", "slot_of_row_ptr": "*i32", "expert_of_tile_ptr": "*i32", "num_slots": "i32", "max_tiles": "i32"}
    sort_options = {"NUM_EXPERTS": 8, "BLOCK_E": 8, "BLOCK_S": 1024, "TILE": 128, "num_warps": 4}
    combine = {"parts_ptr": "*fp32", "y_ptr": "*bf16", "num_slots": "i32", "hidden": "i32"}
    builds = {
        "route": Build(route_kernel, route | {"expert_stride": "i32"}, route_options),
        "sort": Build(sort_kernel, sort, sort_options),
        "rows/bf16": Build(bf16_rows_kernel, rows | {"out_ptr": "*bf16"}, row_options),
        "combine": Build(combine_kernel, combine, {"TOP_K": 2, "NUM_PARTS": 4, "BLOCK": 1024, "num_warps": 4}),
    }
    if has_e4m3:
        e4m3 = rows | {"out_ptr": "*fp8e4nv", "scale_ptr": "*fp32"}
        builds["rows/fp8"] = Build(e4m3_rows_kernel, e4m3, row_options | {"PERMUTE": False})
    return builds
