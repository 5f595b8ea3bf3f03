"""Where a run's numbers come from: commit, command line, host, processors, library versions, kernel sources."""

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from harness import device

LIBRARIES = (
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "triton",
    "vllm",
    "transformers",
    "pandas",
)


def collect(command_line: list[str], seed: int) -> dict:
    """The provenance block of run.json."""
    here = device.cpu()
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": _is_dirty(),
        "command_line": " ".join(command_line),
        "host": os.environ.get("HARNESS_MACHINE") or platform.node(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": {"name": here.name, "num_cores": device.num_cores(), "memory_bytes": here.memory_bytes},
        "gpus": [
            {"name": gpu.name, "capability": gpu.capability, "memory_bytes": gpu.memory_bytes} for gpu in device.attached_gpus()
        ],
        "driver": driver_version(),
        "libraries": {name: _version(name) for name in LIBRARIES if _version(name)},
        "kernel_sources_sha256": kernel_sources_sha256(),
        "seed": seed,
    }


def utc_now() -> str:
    """ISO 8601 with seconds, `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def git(*arguments: str) -> str | None:
    """A git command's output in the project's folder; None outside a checkout."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _is_dirty() -> bool | None:
    status = git("status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def driver_version() -> str | None:
    """The NVIDIA driver's version; None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None


def kernel_sources_sha256() -> str:
    """Hash over every source file of `fp4moe` that takes part in the arithmetic, in path order."""
    root = Path(next(iter(find_spec("fp4moe").submodule_search_locations)))
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".cu", ".cuh") and "pocket" not in p.parts):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def own_sources_sha256(row) -> str | None:
    """Hash over a row's `source_files`, names and contents; None for peers and where it names none."""
    if row is None or not row.source_files:
        return None
    root = Path(next(iter(find_spec("fp4moe").submodule_search_locations)))
    digest = hashlib.sha256()
    for name in sorted(row.source_files):
        digest.update(name.encode())
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def command_line() -> list[str]:
    """The command as typed, with the program's folder left out."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
