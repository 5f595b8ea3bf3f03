"""One request before it is sent: the same for every backend.

Made by `harness.workload.requests.plan_requests`; imports nothing, so that the load client can hold it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """What to send, how much to ask for, and when it is due."""

    request_id: str
    prompt_ids: Sequence[int]
    """Token ids of the prompt; empty where only the text is known (a server whose tokenizer is not here)."""
    output_tokens: int
    """Tokens asked for: `max_tokens` of the request."""
    scheduled_s: float | None
    """Seconds after the start; None in a closed loop, where a request starts when another ends."""
    prompt_text: str | None = None
    """The prompt as text: what /v1/chat/completions is sent, and /v1/completions where there are no ids."""
    seed: int | None = None
    """Seed of the sampling, where it is not greedy."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in tokens; 0 where it is not known."""
        return len(self.prompt_ids)
