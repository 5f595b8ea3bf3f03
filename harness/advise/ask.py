"""What a person asks the advisor: a GPU, a load, latency limits.

In: command-line text. Out: Question, checked once: UsageError says option, rule, value and what is allowed.
"""

import math
from dataclasses import dataclass

from harness.errors import UsageError
from harness.project.gpus import GpuSpec, gpu_spec
from harness.project.memory import ModelShape
from harness.project.projection import Ask, check_ask, model_by_name

LIMITS = ("ttft", "tpot")
EXAMPLE = "ttft:500,tpot:50"
MAX_RATE = 1e5


@dataclass(frozen=True, slots=True)
class Question:
    """`slo` in milliseconds; `max_loss_pct` is the rise of perplexity that is still taken, None for any."""

    gpu: GpuSpec
    model: ModelShape
    prompt: int
    output: int
    rate_per_s: float
    slo: dict[str, float]
    max_loss_pct: float | None = None

    @property
    def slo_text(self) -> str:
        return ", ".join(f"{name.upper()} <= {limit:g} ms" for name, limit in self.slo.items()) or "no latency limit"


def question(
    gpu: str, model: str, *, prompt: int, output: int, rate: float, slo: str, max_loss_pct: float | None = None
) -> Question:
    """Every part checked."""
    shape = model_by_name(model)
    check_ask(Ask(prompt, output), shape)
    if not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        raise UsageError(f"--rate: must be a number above 0 and at most {MAX_RATE:g} requests/s (got {rate})")
    if max_loss_pct is not None and not (math.isfinite(max_loss_pct) and max_loss_pct >= 0):
        raise UsageError(f"--max-loss: must be a percentage of at least 0 (got {max_loss_pct})")
    return Question(gpu_spec(gpu), shape, prompt, output, rate, parse_slo(slo), max_loss_pct)


def parse_slo(text: str) -> dict[str, float]:
    """`ttft:500,tpot:50` in milliseconds; an empty text sets no limit."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, value = part.partition(":")
        if not colon or name not in LIMITS or name in found:
            rule = f"must be NAME:MS with each of {', '.join(LIMITS)} at most once, as {EXAMPLE}"
            raise UsageError(f"--slo {text!r}: {rule} (got {part!r})")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not (math.isfinite(limit) and limit > 0):
            raise UsageError(f"--slo {text!r}: {name} must be a number of milliseconds above 0 (got {value!r})")
        found[name] = limit
    return found
