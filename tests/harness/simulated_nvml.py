"""An NVML that replays recorded telemetry: the functions of pynvml that the harness calls, over rows instead of a driver.

In: a list of readings a GPU (dictionaries by field, None: not supported). Out: an object used in pynvml's place. Each call of
`nvmlDeviceGetClockInfo(SM)`, the first of a reading, moves that GPU to its next row; the last one stays.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class SimulatedNvml:
    """`gpus`: for each, rows with the keys that `steady` shows."""

    gpus: list[list[dict]]
    has_driver: bool = True
    at: list[int] = field(default_factory=list)
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVMLError = NVMLError

    def __post_init__(self):
        self.at = [-1] * len(self.gpus)

    def nvmlInit(self):
        if not self.has_driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, gpu):
        return f"Simulated {gpu}"

    def nvmlDeviceGetUUID(self, gpu):
        return f"GPU-{gpu:04d}"

    def _row(self, gpu: int, key: str):
        value = self.gpus[gpu][max(0, self.at[gpu])].get(key)
        if value is None:
            raise NVMLError("Not Supported")
        return value

    def nvmlDeviceGetClockInfo(self, gpu, kind):
        if kind == self.NVML_CLOCK_SM:
            self.at[gpu] = min(self.at[gpu] + 1, len(self.gpus[gpu]) - 1)
        return self._row(gpu, "sm_clock_mhz" if kind == self.NVML_CLOCK_SM else "memory_clock_mhz")

    def nvmlDeviceGetMaxClockInfo(self, gpu, kind):
        return 1980

    def nvmlDeviceGetUtilizationRates(self, gpu):
        return SimpleNamespace(gpu=self._row(gpu, "utilization_pct"))

    def nvmlDeviceGetPowerUsage(self, gpu):
        return self._row(gpu, "power_w") * 1000

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu):
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        return self._row(gpu, "energy_j") * 1000

    def nvmlDeviceGetTemperature(self, gpu, sensor):
        return self._row(gpu, "temperature_c")

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu):
        return self._row(gpu, "throttle")

    def nvmlDeviceGetMemoryInfo(self, gpu):
        return SimpleNamespace(used=self._row(gpu, "memory"), total=80 * 10**9)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self._row(gpu, "processes")]


def steady(n: int, **changes) -> list[dict]:
    """A GPU under load that nothing disturbs: n rows, 0.1 s apart at 500 W."""
    row = {
        "sm_clock_mhz": 1980, "memory_clock_mhz": 2619, "utilization_pct": 95, "power_w": 500.0, "temperature_c": 61,
        "throttle": 0, "memory": 30 * 10**9, "processes": [(1, 29 * 10**9)],
    }  # fmt: skip
    return [row | {"energy_j": 1000.0 + 50.0 * index} | changes for index in range(n)]
