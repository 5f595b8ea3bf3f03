"""When requests arrive: the kinds that a workload may name.

`closed` keeps a fixed number in flight; `all_at_once` submits everything at the start; `constant` and `poisson` are
open loop, and latency then counts from the scheduled time, not from the time of sending.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Arrival(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClosedArrival(_Arrival):
    """A new request starts when one ends; `concurrency` are in flight."""

    kind: Literal["closed"]
    concurrency: int = Field(gt=0, le=4096)


class AllAtOnceArrival(_Arrival):
    """Every request is submitted at time 0."""

    kind: Literal["all_at_once"]
    max_slots: int = Field(64, gt=0, le=4096)


class ConstantArrival(_Arrival):
    """One request every 1 / rate_per_s seconds."""

    kind: Literal["constant"]
    rate_per_s: float = Field(gt=0, allow_inf_nan=False)
    max_slots: int = Field(64, gt=0, le=4096)


class PoissonArrival(_Arrival):
    """Exponential gaps with mean 1 / rate_per_s seconds, seeded."""

    kind: Literal["poisson"]
    rate_per_s: float = Field(gt=0, allow_inf_nan=False)
    max_slots: int = Field(64, gt=0, le=4096)


ArrivalSpec = Annotated[ClosedArrival | AllAtOnceArrival | ConstantArrival | PoissonArrival, Field(discriminator="kind")]


def num_slots(arrival: ArrivalSpec) -> int:
    """The most requests that are served at the same time."""
    return arrival.concurrency if arrival.kind == "closed" else arrival.max_slots
