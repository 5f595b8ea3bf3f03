"""A server under load: rates in the steady window, the limits of an SLO, rates of a sweep.

In: nothing. Out: SERVING. wall = last token of all requests - first submission.
"""

from harness.metrics.metric import Metric

SERVING = (
    Metric(
        "steady_output_throughput",
        "tokens/s",
        "higher",
        "Output tokens that came inside the steady window over its length.",
        "output tokens in window / window",
    ),
    Metric(
        "steady_request_throughput",
        "requests/s",
        "higher",
        "Requests that ended inside the steady window over its length.",
        "requests ended in window / window",
    ),
    Metric(
        "offered_rate",
        "requests/s",
        "none",
        "Requests of an open loop over the time in which they were due.",
        "(planned requests - 1) / (last scheduled - first scheduled)",
    ),
    Metric(
        "request_goodput",
        "requests/s",
        "higher",
        "Answered requests that met every limit of the SLO over the same wall time as output_throughput.",
        "requests within all limits / wall",
    ),
    Metric(
        "slo_attainment_pct",
        "%",
        "higher",
        "Share of all planned requests that were answered within every limit of the SLO.",
        "100 * requests within all limits / planned requests",
    ),
    Metric(
        "failed_pct",
        "%",
        "lower",
        "Share of planned requests that failed or were never sent.",
        "100 * (failed + not sent) / planned requests",
    ),
    Metric(
        "max_slo_rate",
        "requests/s",
        "higher",
        "Highest offered rate of a sweep at which the SLO was attained; sweep's resolution apart.",
        "max of rate with slo_attainment_pct >= asked, all lower rates too",
    ),
    Metric(
        "knee_rate",
        "requests/s",
        "higher",
        "Offered rate of a sweep beyond which throughput no longer follows the load.",
        "max of rate with request throughput (steady, where there is a window) >= 0.95 * offered_rate, all lower rates too",
    ),
)
