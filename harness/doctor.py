"""What this machine has for measuring FP4 MoE models: facts, and advice where something is missing.

`missing` limits what can be measured; `problem` makes numbers wrong or a run impossible.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import device
from harness.models import pocket_folder
from harness.profile.ncu import find_ncu
from harness.profile.tools import find_nsys
from harness.record.provenance import driver_version
from harness.run.folder import DEFAULT_ROOT

MIN_PYTHON = (3, 11)
MIN_FREE_DISK_BYTES = 1_000_000_000
MIN_FREE_MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, `ok` / `missing` / `problem`, what was found, what to do."""

    item: str
    state: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; never raises."""
    return [*_machine(), *_gpus(), *_libraries(), *_vllm(), *_kernel_tools(), *_tools(), *_model()]


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < MIN_PYTHON
    yield Finding("python", "problem" if old else "ok", version, "needs Python 3.11 or newer" if old else "")
    here = device.cpu()
    yield Finding("cpu", "ok", f"{here.name}, {device.num_cores()} cores")
    low = here.free_bytes < MIN_FREE_MEMORY_BYTES
    found = f"{here.free_bytes / 1e9:.1f} GB free of {here.memory_bytes / 1e9:.1f} GB"
    yield Finding(
        "memory",
        "problem" if low else "ok",
        found,
        "close other programs: a worker needs 2 GB" if low else "",
    )
    free = shutil.disk_usage(next(p for p in [DEFAULT_ROOT.absolute(), *DEFAULT_ROOT.absolute().parents] if p.exists())).free
    full = free < MIN_FREE_DISK_BYTES
    yield Finding(
        "disk",
        "problem" if full else "ok",
        f"{free / 1e9:.1f} GB free",
        "free 1 GB for records" if full else "",
    )


def _gpus() -> Iterator[Finding]:
    gpus = device.attached_gpus()
    if not gpus:
        advice = "speed here is the reference implementation's on a CPU, not FP4's; memory and quality are real"
        yield Finding("gpu", "missing", "no NVIDIA driver, or no GPU", advice)
    for gpu in gpus:
        capability = gpu.capability.replace(".", "")
        found = f"{gpu.name}, sm_{capability}, {gpu.free_bytes / 1e9:.1f} GB free, driver {driver_version()}"
        unknown = gpu.kind == "gpu"
        yield Finding("gpu", "ok", found, "not in data/gpus.yaml: no data-sheet figures for it" if unknown else "")


def _libraries() -> Iterator[Finding]:
    needs = {
        "torch": ("problem", "pip install torch"),
        "transformers": ("missing", "only for tests; pip install 'transformers>=5.10.4'"),
    }
    for name, (state, advice) in needs.items():
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, state, "not installed", advice)


def _vllm() -> Iterator[Finding]:
    """vLLM lives in an environment of its own; looked at there, without importing it."""
    from harness.backends.vllm import environment
    from harness.scenario.backends import VllmBackendSpec

    found, problem = environment.find(VllmBackendSpec(kind="vllm"))
    if found is None:
        yield Finding("vllm", "missing", "no environment with it", f"only to compare with vLLM. {problem}")
    else:
        versions = found.versions
        yield Finding("vllm", "ok", f"{versions['vllm']} with torch {versions['torch']}, {found.path or found.python}")


def _tools() -> Iterator[Finding]:
    nsys, problem = find_nsys()
    found = f"{nsys.path}, {nsys.version}" if nsys else "none that can be used"
    advice = "" if nsys else f"optional, for `harness profile`: {problem}"
    yield Finding("nsys", "ok" if nsys else "missing", found, advice)
    ncu = find_ncu()
    advice = "" if ncu else "optional: Nsight Compute, for `harness profile --kernel-in`"
    yield Finding("ncu", "ok" if ncu else "missing", ncu or "not on the PATH", advice)


def _kernel_tools() -> Iterator[Finding]:
    """What building kernels at first use needs; without it selection takes another one, and says so."""
    from harness.backends.selection import tools

    for tool in tools():
        advice = "" if tool.found else f"{', '.join(tool.kernels)}: {tool.advice}"
        yield Finding(tool.name, "ok" if tool.found else "missing", tool.found or "not found", advice)


def _model() -> Iterator[Finding]:
    folder = pocket_folder()
    files = ("config.json", "model.safetensors", "tokenizer.json", "heldout.txt")
    absent = [name for name in files if not Path(folder / name).is_file()]
    if absent:
        yield Finding(
            "pocket-mixtral",
            "problem",
            f"lacks {', '.join(absent)}",
            "the checkout is incomplete; clone it again",
        )
    else:
        size = (folder / "model.safetensors").stat().st_size
        yield Finding("pocket-mixtral", "ok", f"{size / 1e6:.1f} MB")
