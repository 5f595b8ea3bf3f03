"""What one generation asks of the engine's thread, and what comes back.

In: `GenerationSpec` (token ids and how to go on) or a list of ids to score. Out: `TokenEvent`s, one a token, then none; or
`Scores`. Plain data: neither HTTP nor torch.
"""

from dataclasses import dataclass, field
from itertools import count

_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """One sequence to generate. `seed` is used where temperature is above 0."""

    prompt_ids: list[int]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    ignore_eos: bool = False
    job_id: str = field(default_factory=lambda: f"job-{next(_NUMBERS)}")


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A token of a job, when its step ended (monotonic nanoseconds), and whether it was the last."""

    job_id: str
    token_id: int
    time_ns: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The engine's thread gave a job up."""

    job_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Natural log-probability of a token that is given, and the most likely tokens at its place."""

    logprob: float
    top: tuple[tuple[int, float], ...]


Scores = list[TokenScore | None]
"""One a token; None for the first, which nothing predicts."""
