"""Requests that arrive at a rate: batch, latency and saturation of one step model in its steady state.

In: a step model, rate, lengths, the largest batch that fits. Out: Load. Poisson arrivals, continuous batching where a prefill
stops the decoding of the others:

    rho  = rate * prefill                     part of the time that goes to prefills
    tpot = decode step(batch) / (1 - rho)
    batch = rate * (output - 1) * tpot        Little's law
    ttft = prefill + half a decode step + rho * prefill / (2 (1 - rho))       M/D/1 queue of prefills

Means of a steady state: bursts, priorities and caching of prefixes are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.project.step import Span, StepModel

MAX_ROUNDS = 200
ENDS: dict[str, Callable[[Span], float]] = {
    "best": lambda span: span.low_ms,
    "middle": lambda span: span.ms,
    "worst": lambda span: span.high_ms,
}


@dataclass(frozen=True, slots=True)
class Load:
    """`reason` is set where the rate cannot be served; the figures are then None."""

    rate_per_s: float
    batch: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    reason: str | None = None

    @property
    def output_tokens_per_s(self) -> float | None:
        return None if self.batch is None or not self.tpot_ms else self.batch / self.tpot_ms * 1e3

    def meets(self, slo: dict[str, float]) -> bool:
        """Whether every limit holds (`ttft`, `tpot` in ms)."""
        if self.reason is not None:
            return False
        return all(getattr(self, f"{name}_ms") <= limit for name, limit in slo.items())


def steady_state(step: StepModel, rate: float, prompt: int, output: int, *, max_batch: int, end: str = "middle") -> Load:
    """Fixed point of the batch; saturated where there is none within `max_batch`."""
    pick = ENDS[end]
    prefill_ms = pick(step.prefill(prompt))
    rho = rate * prefill_ms / 1e3
    if rho >= 1:
        return _saturated(rate, f"prefills alone need {rho:.2f} s a second")
    batch = 1e-3
    for _ in range(MAX_ROUNDS):
        decode_ms = pick(step.decode(max(batch, 1.0), prompt + output / 2))
        tpot_ms = decode_ms / (1 - rho)
        wanted = rate * (output - 1) * tpot_ms / 1e3
        if wanted > max_batch:
            return _saturated(rate, f"needs a batch above the {max_batch} that fit")
        if abs(wanted - batch) <= 1e-3 * max(batch, 1e-3):
            break
        batch = wanted
    ttft_ms = prefill_ms + (decode_ms / 2 if batch >= 1 else 0.0) + rho * prefill_ms / (2 * (1 - rho))
    return Load(rate, wanted, ttft_ms, tpot_ms)


def _saturated(rate: float, reason: str) -> Load:
    return Load(rate, None, None, None, reason)


def highest_rate(step: StepModel, prompt: int, output: int, slo: dict[str, float], *, max_batch: int, end: str) -> float:
    """The largest rate that meets the limits, by bisection; 0 where not even a single request does."""

    def holds(rate: float) -> bool:
        return steady_state(step, rate, prompt, output, max_batch=max_batch, end=end).meets(slo)

    low, high = 0.0, 1.0
    if not holds(1e-4):
        return 0.0
    while holds(high) and high < 1e6:
        low, high = high, high * 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def longest_prompt(
    step: StepModel, rate: float, output: int, slo: dict[str, float], *, max_tokens: int, end: str, room: int
) -> int:
    """The longest prompt that still meets the limits; `room` is bytes for the KV cache."""
    low, high = 0, max_tokens - output
    while high - low > max(8, low // 100):
        middle = (low + high) // 2
        fits = int(room // (step.shape.kv_bytes_a_token * (middle + output)))
        good = fits >= 1 and steady_state(step, rate, middle, output, max_batch=fits, end=end).meets(slo)
        low, high = (middle, high) if good else (low, middle)
    return low
