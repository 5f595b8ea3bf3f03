"""Build a .cu file into a shared library with nvcc at first use, and load it.

The library is cached under the user's cache folder by the hash of its source, the compiler and the target, so a changed
source is built anew. Needs the CUDA toolkit's nvcc; without it BuildError says so and names what to use instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from fp4moe.errors import Fp4MoeError

SOURCES = Path(__file__).parent
BUILD_TIMEOUT_S = 600


class BuildError(Fp4MoeError):
    """A CUDA source could not be built here: no compiler, or the compiler refused it."""


def nvcc_path() -> str | None:
    """nvcc on the PATH, under CUDA_HOME or in the usual place; None where there is none."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    return shutil.which("nvcc") or (str(home / "bin" / "nvcc") if (home / "bin" / "nvcc").is_file() else None)


def build(source: str, target: str) -> Path:
    """Compile `source` (a file of this folder) for `target` ("90a", "120a"); gives the library's path."""
    nvcc = nvcc_path()
    if nvcc is None:
        raise BuildError(f"{source}: needs nvcc to be built and none was found; install the CUDA toolkit or set CUDA_HOME")
    key = hashlib.sha256(source_bytes(source) + _version(nvcc).encode() + target.encode()).hexdigest()[:16]
    library = _cache_folder() / f"{Path(source).stem}-sm_{target}-{key}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        _compile(nvcc, SOURCES / source, target, library)
    return library


def source_bytes(source: str) -> bytes:
    """The source and every header of this folder, which it may include."""
    return b"".join(path.read_bytes() for path in (SOURCES / source, *sorted(SOURCES.glob("*.cuh"))))


@cache
def load(source: str, target: str) -> ctypes.CDLL:
    """Build if needed and load; one library a process."""
    return ctypes.CDLL(str(build(source, target)))


def _compile(nvcc: str, source: Path, target: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        part = Path(folder) / library.name
        command = [nvcc, "-O3", "-std=c++17", f"-gencode=arch=compute_{target},code=sm_{target}"]
        command += ["--shared", "-Xcompiler", "-fPIC", str(source), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        if done.returncode != 0:
            raise BuildError(f"{source.name}: nvcc refused it for sm_{target}:\n{done.stderr.strip()[-2000:]}")
        os.replace(part, library)


@cache
def _version(nvcc: str) -> str:
    return subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fp4moe"
