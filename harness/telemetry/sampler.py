"""A thread that reads devices at a stated rate while a cell is measured.

In: readers (`read`, `facts`), a rate. Out: `Telemetry`: all samples, the facts, the rate that was reached. A reader that raises
ends the sampling with its reason, never the measurement. Readings are due at fixed times; a late one is not made up for.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from harness.telemetry.sample import DeviceFacts, Sample


class Reader(Protocol):
    """Something that can be read again and again."""

    def read(self) -> list[Sample]: ...

    def facts(self) -> list[DeviceFacts]: ...


@dataclass(slots=True)
class Telemetry:
    """What was seen. `problem` is why the sampling ended early, None when it did not."""

    samples: list[Sample] = field(default_factory=list)
    facts: list[DeviceFacts] = field(default_factory=list)
    rate_hz: float = 0.0
    problem: str | None = None

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(sample.device for sample in self.samples))

    def of(self, device: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.device == device]


class Sampler:
    """Use as a context manager; `telemetry` is whole when it is left."""

    def __init__(self, readers: list[Reader], rate_hz: float) -> None:
        self._readers, self._interval_s = readers, 1.0 / rate_hz
        self.telemetry = Telemetry(rate_hz=rate_hz)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.perf_counter()
        try:
            is_over = False
            while not is_over:
                is_over = self._stop.is_set()  # asked before: one reading begins after the end, which then lies between two
                for reader in self._readers:
                    self.telemetry.samples += reader.read()
                due_s = max(due_s + self._interval_s, time.perf_counter())
                self._stop.wait(max(0.0, due_s - time.perf_counter()))
            self.telemetry.facts = [fact for reader in self._readers for fact in reader.facts()]
        except Exception as error:  # the boundary of the thread: the measurement goes on without telemetry, and says so
            self.telemetry.problem = f"telemetry ended early: {type(error).__name__}: {error}"


def open_sampler(pid: int, *, on_gpu: bool, rate_hz: float, nvml: object | None = None) -> Sampler:
    """The host's reader always; every visible GPU's where the run is on one."""
    from harness.telemetry.host import HostReader
    from harness.telemetry.nvml import NvmlReader, open_nvml

    readers: list[Reader] = [HostReader(pid)]
    found = open_nvml(nvml) if on_gpu else None
    if found is not None:
        readers.append(NvmlReader(found, pid))
    return Sampler(readers, rate_hz)
