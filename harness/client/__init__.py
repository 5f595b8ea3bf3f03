"""The load client: sends planned requests to an OpenAI-compatible server from a process of its own.

In: an `Endpoint`, planned requests, `ClientOptions`. Out: a `LoadResult`; outcomes lie on disk. What it does not do:
judge (`harness.collect.load_verdict`), compute figures (`harness.collect.load`), choose requests (`harness.workload`).

    result = run_load(endpoint, plan_requests(...), options, folder=samples, warmup=warmup_requests(...))
    metrics, block = load_metrics(result), load_block(result)         # harness.collect.load
    reasons = judge_load(result)                                      # harness.collect.load_verdict

The client imports no torch, no numpy and no pydantic, and a test says so.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from harness.client.types import Api, ClientOptions, ClientOverhead, Endpoint, LoadResult, RequestOutcome
from harness.workload.planned import PlannedRequest

__all__ = [
    "Api",
    "ClientOptions",
    "ClientOverhead",
    "Endpoint",
    "LoadResult",
    "PlannedRequest",
    "RequestOutcome",
    "run_load",
]

Progress = Callable[[int, int, str], None]


def run_load(
    endpoint: Endpoint,
    planned: Iterable[PlannedRequest],
    options: ClientOptions,
    *,
    folder: Path,
    warmup: Iterable[PlannedRequest] = (),
    progress: Progress | None = None,
) -> LoadResult:
    """Send every planned request when it is due and wait until all have ended; blocks.

    `planned` may be a generator: it is written to `folder` request by request, so memory stays bounded. `warmup` is sent
    first, as a closed loop, and must end before the schedule begins; its outcomes are kept apart.
    A server's fault never raises: unreachable, wrong model, 429, HTML and the like are outcomes with a `failure`.
    Raises UsageError for a URL or options that cannot be, WorkerError when the client process itself ends or hangs.
    """
    from harness.client.run import run

    return run(endpoint, planned, options, folder=Path(folder), warmup=warmup, progress=progress)
