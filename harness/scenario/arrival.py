"""When requests arrive: the kinds that a workload may name.

`closed` keeps a fixed number in flight; `all_at_once` submits everything at the start; the others are open loop, and
latency then counts from the scheduled time, not from the time of sending. `sweep` measures one rate after another.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Burstiness = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class _Arrival(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClosedArrival(_Arrival):
    """A new request starts when one ends; `concurrency` are in flight."""

    kind: Literal["closed"]
    concurrency: int = Field(gt=0, le=4096)


class _OpenArrival(_Arrival):
    max_slots: int = Field(64, gt=0, le=4096, description="Slots of our own runtime; others bring their own limit")
    max_concurrency: int | None = Field(
        None, gt=0, le=65_536, description="Requests in flight at most; one that is due waits, and its wait is shown"
    )


class AllAtOnceArrival(_OpenArrival):
    """Every request is submitted at time 0."""

    kind: Literal["all_at_once"]


class ConstantArrival(_OpenArrival):
    """One request every 1 / rate_per_s seconds."""

    kind: Literal["constant"]
    rate_per_s: Rate


class PoissonArrival(_OpenArrival):
    """Exponential gaps with mean 1 / rate_per_s seconds, seeded."""

    kind: Literal["poisson"]
    rate_per_s: Rate


class GammaArrival(_OpenArrival):
    """Gamma gaps with mean 1 / rate_per_s seconds and shape `burstiness`: 1 is Poisson, below 1 comes in bursts."""

    kind: Literal["gamma"]
    rate_per_s: Rate
    burstiness: Burstiness


class RampArrival(_OpenArrival):
    """Poisson arrivals whose rate goes in a straight line from one to the other while the requests last."""

    kind: Literal["ramp"]
    from_rate_per_s: Rate
    to_rate_per_s: Rate


class TraceArrival(_OpenArrival):
    """The times of the workload's trace (`source`)."""

    kind: Literal["trace"]
    time_scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="Multiplies the gaps: 0.5 is twice as fast")


class SweepArrival(_OpenArrival):
    """One open-loop measurement a rate: `num_rates` rates in equal ratios, then `refine` halvings around the SLO's limit."""

    kind: Literal["sweep"]
    process: Literal["poisson", "constant", "gamma"] = "poisson"
    burstiness: Burstiness = 1.0
    from_rate_per_s: Rate
    to_rate_per_s: Rate
    num_rates: int = Field(6, ge=2, le=50)
    refine: int = Field(3, ge=0, le=20)

    @model_validator(mode="after")
    def _rises(self):
        if self.to_rate_per_s <= self.from_rate_per_s:
            raise ValueError(
                f"to_rate_per_s must be more than from_rate_per_s (got {self.to_rate_per_s:g} and {self.from_rate_per_s:g})"
            )
        return self

    def at(self, rate_per_s: float) -> "ConstantArrival | PoissonArrival | GammaArrival":
        """The arrival at one rate of the sweep."""
        common = {"rate_per_s": rate_per_s, "max_slots": self.max_slots, "max_concurrency": self.max_concurrency}
        match self.process:
            case "constant":
                return ConstantArrival(kind="constant", **common)
            case "poisson":
                return PoissonArrival(kind="poisson", **common)
            case "gamma":
                return GammaArrival(kind="gamma", burstiness=self.burstiness, **common)


ArrivalSpec = Annotated[
    ClosedArrival
    | AllAtOnceArrival
    | ConstantArrival
    | PoissonArrival
    | GammaArrival
    | RampArrival
    | TraceArrival
    | SweepArrival,
    Field(discriminator="kind"),
]


def num_slots(arrival: ArrivalSpec) -> int:
    """The most requests that are served at the same time."""
    if arrival.kind == "closed":
        return arrival.concurrency
    return min(arrival.max_slots, arrival.max_concurrency or arrival.max_slots)


def max_in_flight(arrival: ArrivalSpec) -> int | None:
    """The most requests that are sent and not yet ended; None for no limit."""
    return arrival.concurrency if arrival.kind == "closed" else arrival.max_concurrency
