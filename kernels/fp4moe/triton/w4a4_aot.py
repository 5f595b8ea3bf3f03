"""The W4A4 kernels compiled for a GPU that is not there, and what the compiled code holds.

In: which kernel, and a compute capability such as 100 or 120. Out: Triton's compiled object (`.asm` with "ttgir", "ptx",
"cubin"; `.metadata.shared` in bytes) and, from the cubin, its SASS. The shapes are those of a Mixtral-8x7B layer. The compiler
is the one in Triton's wheel; no driver and no GPU is asked. Compiling proves which instructions are used, not that the
numbers are right: for that see the twin in w4a4_dot.py.
"""

import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fp4moe.formats import weight_format
from fp4moe.triton.w4a4 import LAUNCH_SHAPES
from fp4moe.triton.w4a4_kernels import combine_kernel, grouped_kernel
from fp4moe.triton.w4a4_layout import TILE
from fp4moe.triton.w4a4_quantize import LARGEST_CHUNK, quantize_kernel
from fp4moe.triton.w4a4_slots import slots_kernel

HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 4096, 14336, 8, 2
SHARED_BYTES_SM120 = 101376  # a block's most on compute capability 12.0: 99 KiB
_POINTERS = {"out": "*bf16", "x": "*u8", "w": "*u8", "w_scales": "*i32", "x_scales": "*i32", "order": "*i32", "table": "*i32"}
_FLOATS = {"w_row_scale": "*fp32", "x_row_scale": "*fp32"}


def compile_grouped(format: str, capability: int, *, tokens: int, is_gated: bool):
    """`grouped_kernel` for tiles of `tokens` slots: the gate/up product, or the down product in one share."""
    chunks = (HIDDEN if is_gated else INTERMEDIATE) // TILE
    constants = {
        "slot_weight": None, "CHUNKS": chunks, "CHUNKS_OF_SHARE": chunks, "TOP_K": TOP_K if is_gated else 1,
        "GATED": is_gated, "BLOCK": weight_format(format).block_k, "TOKENS": tokens, "NATIVE": True,
    }  # fmt: skip
    types = {**_POINTERS, **_FLOATS, "num_rows": "i32"}
    if not is_gated:
        types["slot_weight"] = "*fp32"
        del constants["slot_weight"]
    warps, stages = LAUNCH_SHAPES[tokens]
    return _compile(grouped_kernel, types, constants, capability, warps=warps, stages=stages)


def compile_quantize(format: str, capability: int):
    """`quantize_kernel` for rows of the intermediate size."""
    types = {"x": "*bf16", "codes": "*u8", "scales": "*u8", "row_scales": "*fp32"}
    constants = {"COLUMNS": INTERMEDIATE, "CHUNK": LARGEST_CHUNK, "BLOCK": weight_format(format).block_k}
    return _compile(quantize_kernel, types, constants, capability, warps=LARGEST_CHUNK // 1024, stages=3)


def compile_slots(capability: int):
    """`slots_kernel` for int64 expert numbers."""
    types = {"ids": "*i64", "order": "*i32", "table": "*i32", "num_slots": "i32", "num_tiles": "i32"}
    return _compile(slots_kernel, types, {"EXPERTS": EXPERTS, "CHUNK": 512, "TOKENS": 128}, capability, warps=4, stages=3)


def compile_combine(capability: int):
    """`combine_kernel` for bfloat16 rows."""
    types = {"parts": "*bf16", "y": "*bf16", "num_columns": "i32"}
    return _compile(combine_kernel, types, {"TERMS": TOP_K, "COLUMNS": 1024}, capability, warps=4, stages=3)


def sass(compiled) -> str:
    """Disassembly of a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        return subprocess.run(
            [triton.knobs.nvidia.nvdisasm.path, "-c", str(cubin)], check=True, capture_output=True, text=True
        ).stdout


def _compile(kernel, types: dict[str, str], constants: dict, capability: int, *, warps: int, stages: int):
    """`types` of the arguments that stay, `constants` of the others; pointers and sizes are multiples of 16, as at run time."""
    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in types},
    )
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
