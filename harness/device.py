"""What this machine can run on: its CPU and its GPUs, as the operating system and NVML report them.

`detect()` asks the machine; `named(name)` describes a GPU of data/gpus.yaml that need not be attached.
No torch here: the answer must not depend on whether an import worked, and must be quick.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import psutil
import yaml

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Device:
    """One place where a model can run."""

    kind: str
    """`cpu`, or a key of data/gpus.yaml, or `gpu` for one that is not in it."""
    name: str
    """The name that the machine reports."""
    capability: str
    """`cpu`, or the compute capability, `9.0`."""
    memory_bytes: int
    free_bytes: int
    is_attached: bool

    @property
    def is_gpu(self) -> bool:
        return self.kind != "cpu"

    @property
    def torch_device(self) -> str:
        return "cuda" if self.is_gpu else "cpu"

    @property
    def slug(self) -> str:
        """The kind as it stands in cell ids, `rtx-5090`."""
        return self.kind.lower().replace(" ", "-")


@cache
def gpu_table() -> dict[str, dict]:
    """data/gpus.yaml: name -> data-sheet figures."""
    return yaml.safe_load(files("harness").joinpath("data/gpus.yaml").read_text(encoding="utf-8"))


def detect() -> Device:
    """The device that a run here uses: the first GPU, else the CPU."""
    gpus = attached_gpus()
    return gpus[0] if gpus else cpu()


def cpu() -> Device:
    """This machine's processor and memory."""
    memory = psutil.virtual_memory()
    return Device("cpu", cpu_name(), "cpu", memory.total, memory.available, is_attached=True)


def attached_gpus() -> list[Device]:
    """Every GPU that NVML reports; empty where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_describe(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _describe(pynvml, index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    name = pynvml.nvmlDeviceGetName(handle)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Device(kind_of(name), name, f"{major}.{minor}", memory.total, memory.free, is_attached=True)


def kind_of(reported_name: str) -> str:
    """The key of data/gpus.yaml whose words all stand in the reported name, else `gpu`."""
    for kind, row in gpu_table().items():
        if all(word.lower() in reported_name.lower() for word in row["match"]):
            return kind
    return "gpu"


def named(name: str) -> Device:
    """A GPU by its name in data/gpus.yaml, or `cpu`; raises UsageError with the known names."""
    if name.lower() == "cpu":
        return cpu()
    for kind, row in gpu_table().items():
        if kind.lower().replace(" ", "") == name.lower().replace(" ", "").replace("-", ""):
            size = int(row["memory_gb"] * 1e9)
            return Device(kind, kind, row["capability"], size, size, is_attached=False)
    raise UsageError(f"--gpu {name!r}: not a known GPU (allowed: cpu, {', '.join(gpu_table())})")


@cache
def cpu_name() -> str:
    """The processor's own name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def num_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
