"""CUDA sources compile for what they claim, on a machine without a GPU, and take the fast path without spills."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from fp4moe.cuda import build
from fp4moe.cuda.build import BuildError
from fp4moe.cuda.fragments import NARROW_TILE, SOURCE, TARGET

needs_nvcc = pytest.mark.skipif(build.nvcc_path() is None, reason="needs nvcc (the CUDA toolkit), which is not on this machine")

# (most tokens of a tile, warpgroups along the rows, along k, chunks of a warpgroup in a stage), as launch_format has them.
CONFIGS = (
    (8, 1, 4, 1), (16, 2, 2, 2), (24, 2, 2, 2), (8, 4, 1, 2), (16, 4, 1, 2), (24, 4, 1, 2), (64, 4, 1, 1), (128, 4, 1, 1),
)  # fmt: skip
VARIANTS = [(name, config) for name in ("Nvfp4", "Mxfp4") for config in CONFIGS]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[str, str, str]:
    """(ptxas report, PTX, SASS) of the Hopper kernel."""
    return compile_source(SOURCE, tmp_path_factory)


def compile_source(source: str, tmp_path_factory) -> tuple[str, str, str]:
    triton = pytest.importorskip("triton", reason="needs Triton's wheel for its disassembler")
    folder = tmp_path_factory.mktemp("cuda")
    command = [build.nvcc_path(), "-O3", "-std=c++17", f"-gencode=arch=compute_{TARGET},code=sm_{TARGET}", "-Xptxas", "-v"]
    command += ["--cubin", "--keep", "--keep-dir", str(folder), str(build.SOURCES / source), "-o", str(folder / "out.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    disassembler = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    sass = subprocess.run([disassembler, "-c", folder / "out.cubin"], capture_output=True, text=True, check=True).stdout
    return done.stderr, next(folder.glob("*.ptx")).read_text(), sass


def product_loops(sass: str) -> dict[tuple[str, tuple[int, ...]], list[list[str]]]:
    """(format, numbers of its Config) -> the operations of every block that multiplies on the tensor cores and loops."""
    loops, variant, block = {}, None, []
    config = re.compile(r"\s*\.section\s+\.text\.\S*?(Nvfp4|Mxfp4)((?:ELi\d+)+)EE")
    for line in sass.splitlines():
        if section := config.match(line):
            variant = section.group(1), tuple(int(number) for number in re.findall(r"\d+", section.group(2)))
        elif re.match(r"\s*\.L_x_\d+:", line):
            block = []
            loops.setdefault(variant, []).append(block)
        elif operation := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+ )?([A-Z0-9_.]+)", line):
            block.append(operation.group(1))
    return {name: [b for b in blocks if any("MMA" in op for op in b)] for name, blocks in loops.items()}


@needs_nvcc
def test_wgmma_is_not_serialized(compiled):
    report, _, _ = compiled
    assert "wgmma.mma_async instructions are serialized" not in report


@needs_nvcc
def test_every_configuration_is_compiled_and_no_other(compiled):
    assert set(product_loops(compiled[2])) == set(VARIANTS)


@needs_nvcc
@pytest.mark.parametrize(("name", "config"), VARIANTS)
def test_no_spill_in_a_loop_that_multiplies(compiled, name, config):
    loops = product_loops(compiled[2])[name, config]
    assert loops
    for loop in loops:
        assert not {"LDL", "STL"} & {operation.split(".")[0] for operation in loop}


@needs_nvcc
@pytest.mark.parametrize(("name", "config"), VARIANTS)
def test_narrow_tiles_take_mma_and_wide_ones_wgmma(compiled, name, config):
    operations = Counter(op.split(".")[0] for loop in product_loops(compiled[2])[name, config] for op in loop)
    fast, other = ("HMMA", "HGMMA") if config[0] <= NARROW_TILE else ("HGMMA", "HMMA")
    assert operations[fast] and not operations[other]
    assert operations["HMUL2"], "codes are expanded in registers"


@needs_nvcc
def test_weights_come_by_bulk_copies(compiled):
    _, ptx, _ = compiled
    assert "cp.async.bulk.shared::cluster.global.mbarrier" in ptx
    assert "mul.rn.bf16x2" in ptx


@needs_nvcc
def test_a_block_has_registers_for_its_warps(compiled):
    report, _, _ = compiled
    assert max(int(used) for used in re.findall(r"Used (\d+) registers", report)) <= 65536 // 640


@needs_nvcc
def test_build_is_cached_by_source_and_headers(tmp_path, monkeypatch):
    (tmp_path / "one.cuh").write_text("#define VALUE 1\n")
    (tmp_path / "one.cu").write_text('#include "one.cuh"\nextern "C" int value() { return VALUE; }\n')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    library = build.build("one.cu", TARGET)
    stamp = library.stat().st_mtime_ns
    assert build.build("one.cu", TARGET) == library and library.stat().st_mtime_ns == stamp
    (tmp_path / "one.cuh").write_text("#define VALUE 2\n")
    assert build.build("one.cu", TARGET) != library


@needs_nvcc
def test_compiler_errors_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    (tmp_path / "wrong.cu").write_text("int f() { return nothing; }\n")
    with pytest.raises(BuildError, match="nothing"):
        build.build("wrong.cu", TARGET)


def test_without_a_compiler_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    with pytest.raises(BuildError, match="install the CUDA toolkit or set CUDA_HOME"):
        build.build(SOURCE, TARGET)
