"""`gates:` of a scenario: what `harness gate` holds a run against, and what it does where the answer is open.

Primary metrics are judged over repeats (at most three, each with the smallest slowdown that matters); exact ones are
compared value against value and need no quiet machine.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.metrics import METRICS
from harness.metrics.primary import is_exact, primary_problem

MAX_PRIMARY = 3
KERNEL_SELECTION = "kernel_selection"
EXPERT_READ_BYTES = "expert_read_bytes_per_step"
OTHER_EXACT = (KERNEL_SELECTION, EXPERT_READ_BYTES)


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PrimaryGateSpec(_Spec):
    """A timed metric: a slowdown of `min_effect_pct` or more fails, one that is surely smaller passes."""

    metric: str = Field(description="A name of harness/metrics that is timed, as median_itl_ms")
    min_effect_pct: float = Field(gt=0, le=100, description="The smallest slowdown, in percent, that matters")
    better: Literal["higher", "lower"] | None = Field(
        None, description="Which way is better; must agree with harness/metrics"
    )

    @model_validator(mode="after")
    def _can_be_judged(self):
        problem = primary_problem(self.metric)
        if problem:
            raise ValueError(f"metric {self.metric!r}: {problem}")
        direction = METRICS[self.metric].direction
        if self.better not in (None, direction):
            raise ValueError(f"{self.metric}: better is {direction} (got better: {self.better})")
        return self


class ExactGateSpec(_Spec):
    """A figure that repeats to the last digit: fails when it is worse by more than `max_worse_pct`."""

    metric: str = Field(description="perplexity, mean_kl_nats, weight_bytes, ..., kernel_selection, expert_read_bytes_per_step")
    max_worse_pct: float = Field(0.0, ge=0, le=1000, allow_inf_nan=False, description="0: any change for the worse fails")

    @model_validator(mode="after")
    def _is_exact(self):
        if self.metric in OTHER_EXACT:
            return self
        if not is_exact(self.metric) or METRICS[self.metric].direction == "none":
            raise ValueError(
                f"metric {self.metric!r}: not one that repeats exactly and has a better and worse; see docs/gates.md"
            )
        return self


MOST_REPEATS = 60
"""The last look at an A/B comparison. At 30 one in fifteen slowdowns of 10 % stayed open on a shared machine."""
DEFAULT_PRIMARY = tuple(
    PrimaryGateSpec.model_construct(metric=name, min_effect_pct=percent, better=None)
    for name, percent in (("output_throughput", 3.0), ("median_ttft_ms", 5.0), ("median_itl_ms", 3.0))
)
DEFAULT_EXACT = tuple(
    ExactGateSpec.model_construct(metric=name, max_worse_pct=percent)
    for name, percent in (
        ("perplexity", 0.1),
        ("weight_bytes", 0.0),
        ("kv_cache_bytes", 0.0),
        (KERNEL_SELECTION, 0.0),
        (EXPERT_READ_BYTES, 1.0),
    )
)


class GateSpec(_Spec):
    """What a gate judges. `harness gate` without it takes these defaults."""

    primary: list[PrimaryGateSpec] = Field(list(DEFAULT_PRIMARY), max_length=MAX_PRIMARY)
    exact: list[ExactGateSpec] = Field(list(DEFAULT_EXACT))
    min_repeats: int = Field(5, ge=5, le=MOST_REPEATS, description="Repeats a side before the first look")
    max_repeats: int = Field(
        MOST_REPEATS, ge=5, le=MOST_REPEATS, description="Repeats a side after which an open answer stays open"
    )
    on_inconclusive: Literal["fail", "warn"] = Field(
        "fail", description="fail: exit 3. warn: exit 0, and the report says that nothing was shown"
    )

    @model_validator(mode="after")
    def _fits_together(self):
        if self.min_repeats > self.max_repeats:
            raise ValueError(f"min_repeats must be at most max_repeats (got {self.min_repeats} and {self.max_repeats})")
        for key, names in (("primary", [p.metric for p in self.primary]), ("exact", [e.metric for e in self.exact])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key}: {twice[0]!r} stands twice")
        if not self.primary and not self.exact:
            raise ValueError("nothing to hold a run against: give at least one of `primary` and `exact`")
        return self
