"""The Triton kernels compile for every capability they are claimed for, take its tensor cores, fit its memory, do not spill.

No GPU is needed: what is read is PTX and the binary. By default the most demanding tile of every format pair is compiled for
every capability; every tile of every kernel under `-m slow`.
"""

import pytest

pytest.importorskip("triton")

from fp4moe.errors import SelectionError
from fp4moe.select import IMPLEMENTATIONS, Capability
from fp4moe.triton import aot
from fp4moe.triton.experts import PAIRS
from fp4moe.triton.gemm_launch import kernel_options
from fp4moe.triton.tiles import tiles

SMALL_KERNELS = ("route", "sort", "rows/bf16", "combine")
# Tensor core instructions in PTX. sm_89 and sm_120 have the mma.sync of sm_80, with E4M3 operands from sm_89 on.
TENSOR_CORES = {
    "sm_80": "mma.sync.aligned",
    "sm_89": "mma.sync.aligned",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
    "sm_120": "mma.sync.aligned",
}


def pairs_of(capability: str):
    return [pair for pair in PAIRS if pair[1] != "fp8" or Capability.parse(capability).number >= 89]


def largest_key(weights: str, activations: str, capability: str) -> str:
    block_m = tiles(weights, Capability.parse(capability))[-1].block_m
    return f"gate_up/{weights}/{activations}/{block_m}"


DEMANDING = [
    pytest.param(largest_key(*pair, capability), capability, id=f"{capability}-{'-x-'.join(pair)}")
    for capability in aot.CAPABILITIES
    for pair in pairs_of(capability)
]


def check(key: str, capability: str) -> None:
    compiled = aot.compile_for(key, capability)
    resources = aot.resources(compiled)
    assert 0 <= resources.shared_bytes <= Capability.parse(capability).shared_memory_bytes
    if key.partition("/")[0] not in ("gate_up", "down"):
        assert resources.stack_bytes == 0
        return
    loop = aot.main_loop(compiled)
    assert aot.num_tensor_core_operations(loop) > 0
    assert not [operation for operation in loop if operation.startswith(("LDL", "STL"))]
    ptx = compiled.asm["ptx"]
    assert TENSOR_CORES[capability] in ptx
    is_e4m3_product = "e4m3" in "".join(line for line in ptx.splitlines() if "mma" in line)
    if capability != "sm_100":  # tcgen05 names its operands in a descriptor
        assert is_e4m3_product == ("/fp8/fp8/" in key)


@pytest.mark.parametrize(("key", "capability"), DEMANDING)
def test_most_demanding_tile_fits_and_multiplies_on_tensor_cores(key, capability):
    check(key, capability)


@pytest.mark.parametrize("capability", aot.CAPABILITIES)
def test_small_kernels_compile_without_a_stack(capability):
    for key in SMALL_KERNELS:
        check(key, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", aot.CAPABILITIES)
def test_every_kernel_and_tile(capability):
    for key in aot.keys(capability):
        check(key, capability)


def test_fp4_stays_in_registers_on_hopper():
    """No weight is written to shared memory: wgmma takes it from registers, four of two BF16 as its first operand."""
    compiled = aot.compile_for("down/nvfp4/bf16/16", "sm_90")
    products = [line for line in compiled.asm["ptx"].splitlines() if "wgmma.mma_async" in line]
    assert len(products) == 8 and all(line.count("{") == 2 for line in products)
    assert not [operation for operation in aot.main_loop(compiled) if operation.startswith("STS")]


def test_keys_of_a_capability_are_those_of_its_row():
    row = next(row for row in IMPLEMENTATIONS if row.name == "triton-grouped")
    for capability in aot.CAPABILITIES:
        found = {tuple(key.split("/")[1:3]) for key in aot.keys(capability) if key.startswith("gate_up/")}
        device = Capability.parse(capability)
        more = dict(row.more_for)
        claimed = {p for p in row.formats() if more.get(p[1]) is None or more[p[1]].accepts(device)}
        assert found == claimed


def test_what_is_compiled_is_what_is_launched():
    tile = tiles("nvfp4", Capability.parse("sm_90"))[0]
    options = kernel_options("nvfp4", "fp8", tile, is_gated=False, is_even_k=True)
    assert (options["BLOCK_M"], options["SPLIT_K"], options["HAS_TOKEN_SCALE"]) == (16, tile.split_k, True)
    assert not options["PERMUTE_OUT"] and kernel_options("nvfp4", "fp8", tile, is_gated=True, is_even_k=True)["PERMUTE_OUT"]


def test_a_key_that_a_capability_lacks_is_refused_with_those_it_has():
    with pytest.raises(SelectionError, match="not a kernel for sm_80; there are route, sort"):
        aot.compile_for("gate_up/fp8/fp8/16", "sm_80")
