"""Statistics of samples and repeats: arrays of numbers in, figures with their n, or null with a reason, out.

summary    mean, median, percentiles of samples; spread of repeats
paired     interval on the perplexity change between two runs scored on the same tokens
bootstrap  interval on the ratio of two medians over repeats
bits       perplexity and bits per byte of a summed NLL

Needs numpy and scipy.special. Decides nothing: what counts as a regression is the gate's.
"""

from harness.stats.bits import bits_per_byte, mean_nll_nats, perplexity
from harness.stats.bootstrap import RatioInterval, bootstrap_ratio
from harness.stats.errors import StatsError
from harness.stats.paired import PerplexityChange, perplexity_change
from harness.stats.summary import Spread, Statistic, Summary, spread, summarize

__all__ = [
    "PerplexityChange",
    "RatioInterval",
    "Spread",
    "Statistic",
    "StatsError",
    "Summary",
    "bits_per_byte",
    "bootstrap_ratio",
    "mean_nll_nats",
    "perplexity",
    "perplexity_change",
    "spread",
    "summarize",
]
