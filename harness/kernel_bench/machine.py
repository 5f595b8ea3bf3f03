"""The device that is measured on: which one, its name and L2 cache, and clocks, power and throttling as NVML reports them.

In: a torch device. Out: facts for the record; {"reason": ...} where NVML does not answer. Changes no setting.
"""

from __future__ import annotations

import torch

from harness.errors import HarnessError


def bench_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    from harness.device import cpu_name

    return cpu_name()


def l2_bytes(device: torch.device) -> int:
    """Size of the GPU's L2 cache; 0 on a CPU, where nothing is rotated past a cache."""
    return torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0


def gpu_state(device: torch.device) -> dict:
    """What NVML says now. On a CPU: why there is nothing."""
    if device.type != "cuda":
        return {"reason": "no GPU"}
    try:
        import pynvml
    except ImportError:
        return {"reason": "pynvml is not installed (pip install nvidia-ml-py)"}
    try:
        pynvml.nvmlInit()
        return _read(pynvml, _handle(pynvml, device))
    except pynvml.NVMLError as error:
        return {"reason": f"NVML: {error}"}


def _handle(pynvml, device: torch.device):
    """By UUID, since CUDA_VISIBLE_DEVICES renumbers what CUDA sees and not what NVML does."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())


def _read(pynvml, handle) -> dict:
    return {
        "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "max_sm_clock_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "throttle_reasons": _throttle_reasons(pynvml, handle),
    }


def survive(error: Exception) -> None:
    """HarnessError where the error took the CUDA context with it: nothing after it would be measured."""
    if not torch.cuda.is_available():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as lost:
        raise HarnessError(
            f"the GPU's context is lost ({(str(lost).splitlines() or [''])[0]}) after {type(error).__name__}; "
            "the rows before are kept. Run the kernels apart with --kernel to find which"
        ) from error


def _throttle_reasons(pynvml, handle) -> str | None:
    """NVML's bits in hexadecimal; newer bindings call them event reasons."""
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if hasattr(pynvml, name):
            return hex(getattr(pynvml, name)(handle))
    return None
