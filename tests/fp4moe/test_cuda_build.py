"""CUDA sources compile for what they claim, on a machine without a GPU, and take the fast path without spills."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fp4moe.cuda import build
from fp4moe.cuda.build import BuildError
from fp4moe.cuda.nvfp4_decode import SOURCE, TARGET

needs_nvcc = pytest.mark.skipif(build.nvcc_path() is None, reason="needs nvcc (the CUDA toolkit), which is not on this machine")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[str, str]:
    """(ptxas report, PTX) of the decode kernel."""
    folder = tmp_path_factory.mktemp("cuda")
    command = [build.nvcc_path(), "-O3", "-std=c++17", f"-gencode=arch=compute_{TARGET},code=sm_{TARGET}", "-Xptxas", "-v"]
    command += ["-c", "--keep", "--keep-dir", str(folder), str(build.SOURCES / SOURCE), "-o", str(folder / "out.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr, next(folder.glob("*.ptx")).read_text()


@needs_nvcc
def test_no_spills_and_fits_one_block_of_512_threads(compiled):
    report, _ = compiled
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spills.groups() == ("0", "0", "0")
    assert int(re.search(r"Used (\d+) registers", report).group(1)) <= 65536 // 512


@needs_nvcc
def test_fast_path_is_there(compiled):
    _, ptx = compiled
    assert "cp.async.bulk.shared::cluster.global.mbarrier" in ptx
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx
    assert "mul.rn.bf16x2" in ptx


@needs_nvcc
def test_build_is_cached_by_source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = build.build(SOURCE, TARGET)
    stamp = library.stat().st_mtime_ns
    assert build.build(SOURCE, TARGET) == library and library.stat().st_mtime_ns == stamp
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    (tmp_path / SOURCE).write_text((Path(build.__file__).parent / SOURCE).read_text() + "\n// changed\n")
    assert build.build(SOURCE, TARGET) != library


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
