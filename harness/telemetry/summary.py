"""Metrics of the telemetry over one window: power, energy a token, utilisation, clocks, memory.

In: Telemetry, the window from first submission to last token, tokens and throughput of the same window. Out: metric values as
in a record; null with the reason where a device does not tell. Energy is the counter's difference, interpolated to the window's
ends, else the integral of power; of all GPUs together. Definitions: harness/metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.collect.values import measured, missing
from harness.telemetry.sample import THROTTLE_BITS, Sample
from harness.telemetry.sampler import Telemetry

NS = 1e9
NO_GPU = "the run was on a CPU, which tells no {}"
GPU_METRICS = {
    "mean_power_w": "power", "gpu_energy_joules": "energy", "joules_per_token": "energy", "tokens_per_joule": "energy",
    "mean_gpu_utilization_pct": "GPU utilisation", "utilization_x_throughput": "GPU utilisation",
    "median_sm_clock_mhz": "SM clock", "min_sm_clock_mhz": "SM clock", "median_memory_clock_mhz": "memory clock",
    "max_temperature_c": "temperature", "throttled_pct": "throttle reasons", "peak_device_memory_bytes": "device memory",
    "other_processes_bytes": "device memory",
}  # fmt: skip
MIN_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Window:
    """What the figures are about: the wall of the requests, on the clock of the samples."""

    start_ns: int
    end_ns: int
    output_tokens: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / NS


def telemetry_metrics(telemetry: Telemetry, window: Window) -> dict[str, dict]:
    """Every metric of this family, measured or null with its reason."""
    gpus = [device for device in telemetry.devices if device.startswith("gpu")]
    inside = {device: within(telemetry.of(device), window) for device in telemetry.devices}
    metrics = _host(inside.get("cpu", []), telemetry)
    if not gpus:
        return metrics | {name: missing(name, NO_GPU.format(what)) for name, what in GPU_METRICS.items()}
    reason = telemetry.problem or f"fewer than {MIN_SAMPLES} samples in the window; raise telemetry_rate_hz"
    if any(len(inside[device]) < MIN_SAMPLES for device in gpus):
        return metrics | {name: missing(name, reason) for name in GPU_METRICS}
    return metrics | _gpus([inside[device] for device in gpus], [telemetry.of(device) for device in gpus], window, telemetry)


def within(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """Samples taken inside the window."""
    return [sample for sample in samples if window.start_ns <= sample.time_ns <= window.end_ns]


def _host(inside: list[Sample], telemetry: Telemetry) -> dict[str, dict]:
    name = "mean_cpu_utilization_pct"
    found = _values(inside, "utilization_pct")
    reason = telemetry.problem or "no sample in the window; raise telemetry_rate_hz"
    return {name: measured(name, sum(found) / len(found), len(found)) if found else missing(name, reason)}


def _gpus(inside: list[list[Sample]], every: list[list[Sample]], window: Window, telemetry: Telemetry) -> dict[str, dict]:
    pooled = [sample for samples in inside for sample in samples]
    energies = [energy_j(samples, window) for samples in every]
    energy = None if None in energies else sum(energies)
    rate = window.output_tokens / window.seconds
    power = None if energy is None else energy / window.seconds
    busy = _mean(pooled, "utilization_pct")
    clocks = _values(pooled, "sm_clock_mhz")
    reasons = _values(pooled, "throttle_reasons")
    mask = sum(THROTTLE_BITS)
    found = {
        "mean_power_w": power,
        "gpu_energy_joules": energy,
        "joules_per_token": energy / window.output_tokens if energy and window.output_tokens else None,
        "tokens_per_joule": window.output_tokens / energy if energy else None,
        "mean_gpu_utilization_pct": busy,
        "utilization_x_throughput": None if busy is None else busy / 100 * rate,
        "median_sm_clock_mhz": _median(clocks),
        "min_sm_clock_mhz": min(clocks, default=None),
        "median_memory_clock_mhz": _median(_values(pooled, "memory_clock_mhz")),
        "max_temperature_c": max(_values(pooled, "temperature_c"), default=None),
        "throttled_pct": 100 * sum(bool(int(r) & mask) for r in reasons) / len(reasons) if reasons else None,
        "peak_device_memory_bytes": _peak_memory(inside),
        "other_processes_bytes": max(_values(pooled, "other_processes_bytes"), default=None),
    }
    why = {field: reason for fact in telemetry.facts for field, reason in fact.missing if fact.device != "cpu"}
    reason = "; ".join(dict.fromkeys(why.values())) or "the GPU does not tell it"
    return {
        name: missing(name, reason, len(pooled)) if value is None else measured(name, value, len(pooled))
        for name, value in found.items()
    }


def energy_j(samples: list[Sample], window: Window) -> float | None:
    """Joules of one GPU in the window."""
    counted = [(sample.time_ns, sample.energy_j) for sample in samples if sample.energy_j is not None]
    if len(counted) > 1:
        return _at(counted, window.end_ns) - _at(counted, window.start_ns)
    powered = [(s.time_ns, s.power_w) for s in samples if s.power_w is not None]
    if len(powered) < 2:
        return None
    moments = [window.start_ns, *(t for t, _ in powered if window.start_ns < t < window.end_ns), window.end_ns]
    watts = [_at(powered, moment) for moment in moments]
    return sum((b - a) / NS * (u + v) / 2 for a, b, u, v in zip(moments, moments[1:], watts, watts[1:], strict=False))


def _at(points: list[tuple[int, float]], moment_ns: int) -> float:
    """Linear between the readings, flat outside them."""
    import numpy as np

    times, values = zip(*points, strict=True)
    return float(np.interp(moment_ns, times, values))


def _values(samples: list[Sample], field: str) -> list[float]:
    return [value for value in (getattr(sample, field) for sample in samples) if value is not None]


def _mean(samples: list[Sample], field: str) -> float | None:
    found = _values(samples, field)
    return sum(found) / len(found) if found else None


def _median(values: list[float]) -> float | None:
    from statistics import median

    return median(values) if values else None


def _peak_memory(inside: list[list[Sample]]) -> int | None:
    """The sum over GPUs of each one's highest reading."""
    peaks = [max(_values(samples, "memory_used_bytes"), default=None) for samples in inside]
    return None if None in peaks else int(sum(peaks))
