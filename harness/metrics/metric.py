"""What one figure means, and a table of such by name.

In: the rows of the modules beside this one. Out: `Metric`, `by_name`.
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What one figure means. `direction` says which way is better; "none": not to be judged."""

    name: str
    unit: str
    direction: Direction
    definition: str
    formula: str


def by_name(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    """The metrics keyed by name; ValueError when a name stands twice."""
    names = [metric.name for metric in metrics]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"metrics: a name must be defined once (twice: {twice}); remove one definition")
    return dict(zip(names, metrics, strict=True))
