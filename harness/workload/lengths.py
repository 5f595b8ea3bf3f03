"""Draws of token counts: a length spec, a count, a generator -> whole numbers."""

import numpy as np

from harness.scenario.lengths import Distribution


def draw_lengths(length: int | Distribution, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` lengths as int64, each within `harness.scenario.lengths.bounds`."""
    if isinstance(length, int):
        return np.full(count, length, dtype=np.int64)
    match length.kind:
        case "uniform":
            return generator.integers(length.low, length.high, size=count, endpoint=True)
        case "lognormal":
            drawn = generator.lognormal(np.log(length.median), length.sigma, size=count)
            return np.clip(np.rint(drawn), length.low, length.high).astype(np.int64)
        case "zipf":
            values = np.arange(length.low, length.high + 1)
            return generator.choice(values, size=count, p=zipf_weights(len(values), length.exponent))
        case "empirical":
            weights = None if length.weights is None else np.asarray(length.weights) / sum(length.weights)
            return generator.choice(np.asarray(length.tokens, dtype=np.int64), size=count, p=weights)
    raise ValueError(f"no rule for lengths of kind {length.kind!r}")


def zipf_weights(count: int, exponent: float) -> np.ndarray:
    """Probabilities of ranks 1..count, proportional to rank ** -exponent."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()
