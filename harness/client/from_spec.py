"""A workload spec as options of the load client."""

from typing import Any

from harness.client.types import ClientOptions
from harness.scenario.arrival import max_in_flight, num_slots
from harness.scenario.schema import WorkloadSpec


def client_options(spec: WorkloadSpec, *, extra_body: dict | None = None, **more: Any) -> ClientOptions:
    """Concurrency and limits of the workload; `more` are other fields of ClientOptions.

    Warm-up fills a closed loop's slots, or the slots that an open loop assumes.
    """
    return ClientOptions(
        concurrency=max_in_flight(spec.arrival),
        warmup_concurrency=num_slots(spec.arrival),
        extra_body={} if extra_body is None else extra_body,
        max_failed_pct=spec.max_failed_pct,
        **more,
    )
