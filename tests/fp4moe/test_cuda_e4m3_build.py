"""The kernel for Hopper's FP8 tensor cores compiles without a GPU, multiplies on them and does not spill."""

import re
from collections import Counter

import pytest

from fp4moe.cuda import build
from fp4moe.cuda.e4m3 import SOURCE
from test_cuda_build import compile_source, needs_nvcc

pytestmark = pytest.mark.slow  # 45 s of compiling
WEIGHTS = ("Nvfp4E4m3", "Mxfp4E4m3", "StoredE4m3")
VARIANTS = [(name, first, tokens) for name in WEIGHTS for first in (1, 0) for tokens in (64, 256)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[str, str, str]:
    """(ptxas report, PTX, SASS)."""
    return compile_source(SOURCE, tmp_path_factory)


@pytest.fixture(scope="module")
def product_loops(compiled) -> dict[tuple[str, int, int], list[list[str]]]:
    """(weights, first or second product, most tokens) -> every block of instructions that multiplies, as it stands."""
    loops, variant, block = {}, None, []
    for line in compiled[2].splitlines():
        if section := re.match(rf"\s*\.section\s+\.text\.\S*?({'|'.join(WEIGHTS)})ELb(\d)ELi(\d+)E", line):
            variant = section.group(1), int(section.group(2)), int(section.group(3))
        elif re.match(r"\s*\.section\s+\.text", line):
            variant = None
        elif re.match(r"\s*\.L_x_\d+:", line):
            block = []
            loops.setdefault(variant, []).append(block)
        elif operation := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+ )?([A-Z0-9_.]+)(.*)", line):
            block.append(operation.group(1) + operation.group(2))
    return {name: [b for b in blocks if any("QGMMA" in op for op in b)] for name, blocks in loops.items()}


def names(loop: list[str]) -> Counter:
    return Counter(re.split(r"[ .;]", operation)[0] for operation in loop)


@needs_nvcc
def test_wgmma_is_not_serialized(compiled):
    assert "wgmma.mma_async instructions are serialized" not in compiled[0]


@needs_nvcc
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_multiplies_on_the_fp8_tensor_cores_and_does_not_spill(product_loops, variant):
    loops = product_loops[variant]
    widths = {int(width) for loop in loops for width in re.findall(r"QGMMA\.64x(\d+)x32\.F32\.E4M3\.E4M3", " ".join(loop))}
    assert widths == {8, 16, 32, 48, 64} if variant[2] == 64 else widths == set(range(16, 257, 16))
    for loop in loops:
        assert not {"LDL", "STL", "HGMMA"} & names(loop).keys()


@needs_nvcc
@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant[0] != "StoredE4m3"], ids=str)
def test_codes_are_expanded_by_byte_permutations_within_the_loop(product_loops, variant):
    """Four codes a permutation: 16 of a stage's 64 codes a lane, and one to take a scale apart for each table, 4 or 2."""
    for loop in product_loops[variant]:
        found = names(loop)
        if found["QGMMA"] == 4:
            assert 16 + 2 <= found["PRMT"] <= 16 + 6  # the address of the other block's barrier takes one too
            assert found["LDS"] <= 3


@needs_nvcc
@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant[0] == "StoredE4m3"], ids=str)
def test_fp8_weights_go_from_shared_memory_to_the_tensor_cores(product_loops, variant):
    for loop in product_loops[variant]:
        assert names(loop)["LDS"] == 0
        assert all(op.count("gdesc") == 1 and " R" in op for op in loop if "QGMMA" in op)


@needs_nvcc
def test_copies_go_to_both_blocks_of_a_cluster(compiled):
    assert "multicast::cluster" in compiled[1] and "mapa.shared::cluster" in compiled[1]
    assert "red.global.add.v2.f32" in compiled[1] and "stmatrix.sync.aligned.m8n8.x4.trans" in compiled[1]


@needs_nvcc
def test_a_block_has_registers_for_its_warps(compiled):
    report = compiled[0].split("Compiling entry function")
    products = [part for part in report if "product" in part]
    assert len(products) == len(VARIANTS)
    assert all(int(re.search(r"Used (\d+) registers", part).group(1)) <= 65536 // 384 for part in products)


def test_the_table_names_every_file_the_kernel_is_made_of():
    from fp4moe.select.table import IMPLEMENTATIONS

    row = next(row for row in IMPLEMENTATIONS if row.name == "cuda-e4m3")
    included, found = {SOURCE}, set()
    while included - found:
        name = (included - found).pop()
        found.add(name)
        included |= set(re.findall(r'#include "(.*)"', (build.SOURCES / name).read_text()))
    assert {f"cuda/{name}" for name in found} <= set(row.source_files)
