"""Readings of the processor and of one process's memory: what a host without a GPU can tell.

In: the process under measurement. Out: a `Sample` of device "cpu" a reading: utilisation of the process and its children in
percent of all cores, and their resident bytes. None once the process has ended.
"""

import time

import psutil

from harness.device import cpu_name, num_cores
from harness.telemetry.sample import DeviceFacts, Sample

MIN_ELAPSED_S = 0.05
"""The kernel counts CPU time in ticks of 10 ms: below five of them a share is mostly rounding."""


class HostReader:
    """`utilization_pct` needs two readings: the first has none."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last: tuple[int, float] | None = None

    def read(self) -> list[Sample]:
        now_ns = time.perf_counter_ns()
        try:
            family = [psutil.Process(self._pid), *psutil.Process(self._pid).children(recursive=True)]
            times = [process.cpu_times() for process in family]
            busy_s = sum(t.user + t.system for t in times)
            rss = sum(process.memory_info().rss for process in family)
        except psutil.Error:
            return [Sample(now_ns, "cpu")]
        return [Sample(now_ns, "cpu", utilization_pct=self._share(now_ns, busy_s), rss_bytes=rss)]

    def _share(self, now_ns: int, busy_s: float) -> float | None:
        """Percent of all cores since the last reading that was far enough away to tell; None where none is."""
        if self._last is None:
            self._last = now_ns, busy_s
            return None
        elapsed_s = (now_ns - self._last[0]) / 1e9
        if elapsed_s < MIN_ELAPSED_S:
            return None
        share = 100.0 * (busy_s - self._last[1]) / elapsed_s / num_cores()
        self._last = now_ns, busy_s
        return max(0.0, share)

    def facts(self) -> list[DeviceFacts]:
        why = "a CPU tells no power, clock or throttling through this reader"
        fields = ("power_w", "energy_j", "sm_clock_mhz", "temperature_c", "throttle_reasons")
        return [
            DeviceFacts("cpu", cpu_name(), memory_bytes=psutil.virtual_memory().total, missing=tuple((f, why) for f in fields))
        ]
