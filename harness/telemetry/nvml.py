"""Readings of every visible NVIDIA GPU, through NVML.

In: an NVML module (pynvml, or one that replays), the process that is measured. Out: a `Sample` a GPU a reading. A field that a
GPU refuses (`NVMLError_NotSupported`) is None from then on, and says why in `facts`; nothing is guessed. CUDA_VISIBLE_DEVICES
limits and orders the GPUs, as numbers or UUIDs. Where NVML names processes of another namespace (a container), ours is among
them under a number that we do not know: one is taken to be it.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from harness.telemetry.sample import DeviceFacts, Sample

VISIBLE = "CUDA_VISIBLE_DEVICES"


def open_nvml(module: Any | None = None) -> Any | None:
    """An initialized NVML; None where there is no driver."""
    if module is None:
        import pynvml as module
    try:
        module.nvmlInit()
    except module.NVMLError:
        return None
    return module if module.nvmlDeviceGetCount() > 0 else None


class NvmlReader:
    """Reads all visible GPUs; `pid` is the process under measurement, with its children."""

    def __init__(self, nvml: Any, pid: int) -> None:
        self._nvml, self._pid = nvml, pid
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        self._handles = {f"gpu{index}": handle for index, handle in _visible(nvml, handles)}
        self._refused: dict[str, dict[str, str]] = {device: {} for device in self._handles}

    def read(self) -> list[Sample]:
        return [self._sample(device, handle) for device, handle in self._handles.items()]

    def facts(self) -> list[DeviceFacts]:
        return [self._facts(device, handle) for device, handle in self._handles.items()]

    def _sample(self, device: str, handle: Any) -> Sample:
        nvml = self._nvml

        def ask(field: str, call: Callable[[], Any]) -> Any:
            return self._ask(device, field, call)

        ours, others_bytes, count = self._processes(device, handle)
        return Sample(
            time.perf_counter_ns(),
            device,
            sm_clock_mhz=ask("sm_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=ask("memory_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            utilization_pct=ask("utilization_pct", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            power_w=ask("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
            energy_j=ask("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
            temperature_c=ask("temperature_c", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            throttle_reasons=ask("throttle_reasons", lambda: _reasons(nvml, handle)),
            memory_used_bytes=ask("memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            num_processes=count,
            other_processes_bytes=others_bytes,
        )

    def _processes(self, device: str, handle: Any) -> tuple[int | None, int | None, int | None]:
        """(ours, bytes of the others, all); None where NVML does not say."""
        found = self._ask(device, "num_processes", lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if found is None:
            return None, None, None
        family = self._family()
        others = [process for process in found if process.pid not in family]
        if others and len(others) == len(found):  # another namespace: the largest is taken for ours
            others.remove(max(others, key=lambda process: process.usedGpuMemory or 0))
        sizes = [process.usedGpuMemory for process in others]
        return len(found) - len(others), None if None in sizes else sum(sizes), len(found)

    def _family(self) -> set[int]:
        try:
            return {self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))}
        except psutil.Error:
            return {self._pid}

    def _ask(self, device: str, field: str, call: Callable[[], Any]) -> Any:
        if field in self._refused[device]:
            return None
        try:
            return call()
        except self._nvml.NVMLError as error:
            self._refused[device][field] = f"NVML: {error}"
            return None

    def _facts(self, device: str, handle: Any) -> DeviceFacts:
        nvml = self._nvml
        clock = self._ask(device, "max_sm_clock_mhz", lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
        limit = self._ask(device, "power_limit_w", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3)
        memory = self._ask(device, "memory_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total)
        name = nvml.nvmlDeviceGetName(handle)
        return DeviceFacts(device, name, clock, limit, memory, tuple(self._refused[device].items()))


def _visible(nvml: Any, handles: list) -> list[tuple[int, Any]]:
    """(CUDA's number, handle) of the GPUs that CUDA would show."""
    wanted = os.environ.get(VISIBLE)
    if wanted is None or not wanted.strip():
        return list(enumerate(handles))
    uuids = {str(nvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
    chosen = []
    for part in (part.strip() for part in wanted.split(",")):
        if part.isdigit() and int(part) < len(handles):
            chosen.append(handles[int(part)])
        elif part in uuids:
            chosen.append(uuids[part])
        else:
            break  # CUDA stops at the first name that it does not know
    return list(enumerate(chosen))


def _reasons(nvml: Any, handle: Any) -> int:
    """Newer bindings call throttle reasons event reasons."""
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if hasattr(nvml, name):
            return int(getattr(nvml, name)(handle))
    raise nvml.NVMLError(nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
