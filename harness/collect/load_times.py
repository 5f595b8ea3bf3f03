"""An outcome of the load client as `RequestTimes`, the one form that latency is computed from."""

from harness.client.types import RequestOutcome
from harness.collect.latency import RequestTimes


def request_times(outcome: RequestOutcome) -> RequestTimes:
    """Times of an answered request: each token of a chunk came when the chunk did."""
    if all(count == 1 for count in outcome.chunk_tokens):
        times = outcome.chunk_times_ns
    else:
        pairs = zip(outcome.chunk_times_ns, outcome.chunk_tokens, strict=True)
        times = tuple(time for time, count in pairs for _ in range(count))
    used = outcome.usage_prompt_tokens
    return RequestTimes(
        outcome.request_id,
        outcome.scheduled_ns,
        outcome.dispatched_ns if outcome.sent_ns is None else outcome.sent_ns,
        times,
        outcome.prompt_tokens if used is None else used,
        outcome.asked_tokens,
        outcome.output_tokens,
    )
