"""One reading of one device, and what stays the same of it. A field that the device does not tell is None."""

from dataclasses import dataclass

COLUMNS = (
    "time_ns", "device", "sm_clock_mhz", "memory_clock_mhz", "utilization_pct", "power_w", "energy_j", "temperature_c",
    "throttle_reasons", "memory_used_bytes", "num_processes", "other_processes_bytes", "rss_bytes",
)  # fmt: skip

IDLE = 0x1
THROTTLE_BITS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
}
"""NVML's clock event reasons that make a GPU slower than it was asked to be (nvml.h, nvmlClocksEventReasons)."""
THERMAL, POWER = 0x20 | 0x40 | 0x8, 0x4 | 0x80


@dataclass(frozen=True, slots=True)
class Sample:
    """`time_ns` is `time.perf_counter_ns`, the clock of requests and steps. `utilization_pct` of a CPU: of all its cores."""

    time_ns: int
    device: str
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    utilization_pct: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    throttle_reasons: int | None = None
    memory_used_bytes: int | None = None
    num_processes: int | None = None
    other_processes_bytes: int | None = None
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """`device` is "gpu0", "gpu1", ... or "cpu". `missing`: field -> why the device does not tell it."""

    device: str
    name: str
    max_sm_clock_mhz: float | None = None
    power_limit_w: float | None = None
    memory_bytes: int | None = None
    missing: tuple[tuple[str, str], ...] = ()
