"""Statistics of samples as another tool's file wants them, without the percentiles that the samples cannot have seen.

In: values, percentiles. Out: mean, min, max, standard deviations, percentiles by name; empty for no values. The smallest n of
a percentile is that of harness/stats/summary.py, and of p5 that of p95.
"""

from collections.abc import Sequence

from harness.stats.summary import MIN_SAMPLES

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_QUARTILE_SAMPLES = 4


def distribution(values: Sequence[float], percentiles: Sequence[float] = PERCENTILES) -> dict[str, float]:
    """`std` divides by n - 1 and is there for two values or more, `std_population` divides by n."""
    import numpy as np

    if not values:
        return {}
    found = {"mean": float(np.mean(values)), "min": float(min(values)), "max": float(max(values))}
    found |= {f"p{p:g}": float(np.percentile(values, p)) for p in percentiles if len(values) >= min_samples(p)}
    found["std_population"] = float(np.std(values))
    return found | ({"std": float(np.std(values, ddof=1))} if len(values) > 1 else {})


def min_samples(percentile: float) -> int:
    """The fewest samples that a percentile is given from."""
    return MIN_SAMPLES.get(max(percentile, 100 - percentile), _QUARTILE_SAMPLES)
