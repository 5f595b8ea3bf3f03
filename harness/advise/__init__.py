"""Which precision and kernel to use on a GPU, for a load and latency limits: `advise(question) -> Advice`.

In: a Question. Out: the options best first, the choice, when it flips, and sources. Speeds are projections and say so;
qualities are pocket-mixtral's records. Imports no torch.
"""

from dataclasses import dataclass

from harness.advise.ask import Question, question
from harness.advise.flips import flips
from harness.advise.options import NO, Option, options
from harness.errors import UsageError

__all__ = ["Advice", "Option", "Question", "advise", "question"]


@dataclass(frozen=True, slots=True)
class Advice:
    """`choice` is None where no option meets the limits; `options` then says what comes closest."""

    question: Question
    options: tuple[Option, ...]
    choice: Option | None
    flips: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Of the choice, or of the first option."""
        first = self.choice or self.options[0]
        lines = [*first.projection.basis, f"perplexity: {first.quality.source}" if first.quality.source else ""]
        return tuple(filter(None, lines))


def advise(asked: Question) -> Advice:
    """UsageError where the model fits in no precision at all."""
    found = options(asked)
    if not any(option.projection.metrics for option in found):
        smallest = min(found, key=lambda option: option.fit.weight_bytes, default=None)
        why = "no kernel" if smallest is None else f"{smallest.projection.label}: {smallest.reason}"
        raise UsageError(
            f"--gpu {asked.gpu.name}: {asked.model.name} with {asked.prompt} + {asked.output} tokens fits in no precision "
            f"({why}); choose a larger GPU, shorter lengths, or fewer experts"
        )
    choice = found[0] if found[0].meets != NO else None
    return Advice(asked, tuple(found), choice, tuple(flips(asked, found)))
