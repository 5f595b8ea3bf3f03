"""Reasons for the verdict from what the devices reported: fallen clocks, throttling, a stranger on the GPU.

In: Telemetry, the window, the engine's steps. Out: `Reason`s, each with its figure and what to do. Only readings of a busy GPU
are judged: an idle one lowers its clocks by itself. Nothing is said of a field that the device does not tell. When a fallen
clock invalidates: docs/decisions/0033-a-fallen-clock-must-slow-the-steps.md.
"""

from collections.abc import Sequence
from statistics import median

from harness.collect.latency import StepTimes
from harness.telemetry.pace import Pace, paces
from harness.telemetry.sample import POWER, THERMAL, THROTTLE_BITS, Sample
from harness.telemetry.sampler import Telemetry
from harness.telemetry.summary import MIN_SAMPLES, Window, within
from harness.verdict import Reason

BUSY_PCT = 10
MIN_BUSY = 6
"""Readings of a busy GPU below which first and last third say nothing."""
MIN_CORE_SHARE = 0.8
"""Of one core that a single-threaded worker that never waits should have had."""
CLOCK_WARN, CLOCK_INVALID = 0.03, 0.10
"""Fall of the median SM clock from the first third to the last: time follows the clock at best in proportion."""
SLOWED_SHARE = 0.5
"""Of the fall: where steps slowed by less, something else sets more of their time. Of CLOCK_INVALID at least, since longer
contexts slow steps too."""
THROTTLE_INVALID = 0.10
"""Share of busy readings under thermal or hardware slowdown from which on the figures are of the cooling."""


CODES = (
    "no_telemetry", "telemetry_ended", "busy_machine", "few_telemetry_samples", "clock_drop", "thermal_throttle",
    "power_throttle", "other_process",
)  # fmt: skip
"""Every reason that comes from here, and from nowhere else."""


def judge_telemetry(telemetry: Telemetry, window: Window, *, on_gpu: bool, steps: Sequence[StepTimes] = ()) -> list[Reason]:
    """Over every GPU, in order. `steps` is empty for a backend that tells none."""
    if not on_gpu:
        return []  # host.py's figures are judged by judge_host
    gpus = [device for device in telemetry.devices if device.startswith("gpu")]
    if not gpus:
        return [Reason("no_telemetry", telemetry.problem or "NVML gave no reading: clocks and throttling are not known", False)]
    reasons: list[Reason] = [Reason("telemetry_ended", telemetry.problem, False)] if telemetry.problem else []
    for device in gpus:
        inside = within(telemetry.of(device), window)
        busy = [sample for sample in inside if (sample.utilization_pct or 0) >= BUSY_PCT]
        reasons += [
            *_few(device, inside, telemetry),
            *_clocks(device, busy, steps),
            *_throttled(device, busy),
            *_strangers(device, inside),
        ]
    return reasons


def judge_host(telemetry: Telemetry, window: Window, *, threads: int, num_cores: int) -> list[Reason]:
    """For a worker with `threads` threads that never waits for a request: did the machine give it that many cores?"""
    shares = [s.utilization_pct for s in within(telemetry.of("cpu"), window) if s.utilization_pct is not None]
    if len(shares) < MIN_BUSY:
        return []
    cores = sum(shares) / len(shares) / 100 * num_cores
    if cores >= MIN_CORE_SHARE * threads:
        return []
    text = f"the worker got {cores:.2f} of {threads} core{'s' if threads > 1 else ''} (n = {len(shares)} readings)"
    return [Reason("busy_machine", f"{text}: something else ran here; end it and repeat", False)]


def _few(device: str, inside: Sequence[Sample], telemetry: Telemetry) -> list[Reason]:
    if len(inside) >= MIN_SAMPLES:
        return []
    text = (
        f"{device}: {len(inside)} readings at {telemetry.rate_hz:g} a second while requests ran: clocks and power are not known"
    )
    return [Reason("few_telemetry_samples", f"{text}; serve more requests or raise telemetry_rate_hz", False)]


def _clocks(device: str, busy: Sequence[Sample], steps: Sequence[StepTimes]) -> list[Reason]:
    clocks = [sample.sm_clock_mhz for sample in busy if sample.sm_clock_mhz]
    if len(clocks) < MIN_BUSY:
        return []
    third = len(clocks) // 3
    first, last = median(clocks[:third]), median(clocks[-third:])
    fall = 1 - last / first
    if fall <= CLOCK_WARN:
        return []
    text = f"{device}: the SM clock fell from {first:.0f} to {last:.0f} MHz ({100 * fall:.0f} %) while requests ran"
    told, slowed = _steps(paces(steps, busy), fall)
    advice = "fix it (nvidia-smi --lock-gpu-clocks), let the GPU cool, or raise its power limit"
    return [Reason("clock_drop", f"{text}; {told}; {advice}", fall > CLOCK_INVALID and slowed)]


def _steps(found: Sequence[Pace], fall: float) -> tuple[str, bool]:
    """What the steps did, in words, and whether it invalidates a run whose clock fell by `fall`."""
    if not found:
        return "there are no like steps to tell whether they slowed with it", True
    own = [fall if pace.own_fall is None else pace.own_fall for pace in found]
    did = ", ".join(
        f"its {pace.kind} changed by {_pct(pace.change)} (n = {pace.num_steps}) and the clock meanwhile by {_pct(-part)}"
        for pace, part in zip(found, own, strict=True)
    )
    touched = [(pace, part) for pace, part in zip(found, own, strict=True) if part > CLOCK_WARN]
    if not touched:
        return f"{did}, so it fell by no more than {100 * CLOCK_WARN:.0f} % while these ran", False
    slowed = [pace for pace, part in touched if pace.change >= SLOWED_SHARE * part]
    names = " and ".join(pace.kind for pace in slowed)
    if any(pace.change >= SLOWED_SHARE * max(part, CLOCK_INVALID) for pace, part in touched):
        return f"{did}, so its {names} slowed with it", True
    if slowed:
        return f"{did}, so its {names} slowed with it, by less than {100 * SLOWED_SHARE * CLOCK_INVALID:.0f} %", False
    return f"{did}, so the clock does not set most of their time", False


def _pct(share: float) -> str:
    """Signed; +0.0 for what rounds to nothing."""
    return f"{round(100 * share, 1) + 0.0:+.1f} %"


def _throttled(device: str, busy: Sequence[Sample]) -> list[Reason]:
    told = [int(sample.throttle_reasons) for sample in busy if sample.throttle_reasons is not None]
    reasons = []
    for mask, code, advice in (
        (THERMAL, "thermal_throttle", "let it cool, improve the airflow, or lock a lower clock"),
        (POWER, "power_throttle", "its power limit holds it back: figures are those of this limit; raise it or say so"),
    ):
        hit = [bits for bits in told if bits & mask]
        if not hit:
            continue
        share = len(hit) / len(told)
        names = ", ".join(name for bit, name in THROTTLE_BITS.items() if bit & mask and any(bits & bit for bits in hit))
        text = f"{device}: {names} in {len(hit)} of {len(told)} readings ({100 * share:.0f} %)"
        reasons.append(Reason(code, f"{text}; {advice}", mask == THERMAL and share > THROTTLE_INVALID))
    return reasons


def _strangers(device: str, inside: Sequence[Sample]) -> list[Reason]:
    sizes = [sample.other_processes_bytes for sample in inside if sample.other_processes_bytes]
    if not sizes:
        return []
    text = f"{device}: another process held up to {max(sizes) / 1e9:.2f} GB in {len(sizes)} of {len(inside)} readings"
    return [
        Reason("other_process", f"{text}; its work cannot be told from ours: end it (nvidia-smi shows it) and repeat", True)
    ]
