"""Latencies of requests: the definition of a sample times a statistic.

In: nothing. Out: LATENCY; TAILS, percentiles that need many requests; STEADY_LATENCY, over the steady window; STATISTICS, for
other samples. Latency counts from the time at which a request was due.
"""

from harness.metrics.metric import Metric

# Latency by short name: definition, formula of one sample.
_SAMPLES = {
    "ttft": (
        "time to first token of a request, from its scheduled time (its submission where none was scheduled)",
        "first token - scheduled",
    ),
    "tpot": (
        "time per output token after the first, one value a request; needs two output tokens",
        "(e2el - ttft) / (output tokens - 1)",
    ),
    "itl": (
        "inter-token latency: the gaps between tokens of a request, the gaps of all requests pooled",
        "token[i + 1] - token[i]",
    ),
    "e2el": (
        "end-to-end latency of a request, from its scheduled time (its submission where none was scheduled)",
        "last token - scheduled",
    ),
}

# Statistic by prefix: words, function.
STATISTICS = {
    "mean": ("Mean", "mean"),
    "median": ("Median", "median"),
    "std": ("Sample standard deviation (over n - 1, n >= 2)", "std"),
    "p50": ("50th percentile, linear", "p50"),
    "p90": ("90th percentile, linear (n >= 10)", "p90"),
    "p95": ("95th percentile, linear (n >= 20)", "p95"),
    "p99": ("99th percentile, linear (n >= 100)", "p99"),
}

LATENCY = tuple(
    Metric(f"{prefix}_{latency}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
    for latency, (meaning, sample) in _SAMPLES.items()
    for prefix, (words, function) in STATISTICS.items()
)

_EXTREME = {"p99.9": ("99.9th percentile, linear (n >= 10000)", "p99.9")}
_STEADY = {"median": STATISTICS["median"], "p99": STATISTICS["p99"]}

TAILS = tuple(
    Metric(f"{prefix}_{latency}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
    for latency, (meaning, sample) in _SAMPLES.items()
    for prefix, (words, function) in _EXTREME.items()
)

STEADY_LATENCY = tuple(
    Metric(
        f"steady_{prefix}_{latency}_ms",
        "ms",
        "lower",
        f"{words}, over requests that were due in the steady window, of {meaning}.",
        f"{function}({sample} for scheduled in window)",
    )
    for latency, (meaning, sample) in _SAMPLES.items()
    for prefix, (words, function) in _STEADY.items()
)
