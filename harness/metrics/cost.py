"""What processes on the host spend: the load client's CPU time and memory, the worker's CPU time a step.

In: nothing. Out: COST.
"""

from harness.metrics.metric import Metric

COST = (
    Metric(
        "client_cpu_pct",
        "%",
        "lower",
        "CPU time of the load client's process over the wall time of the load; 100 is one core.",
        "100 * cpu / wall",
    ),
    Metric(
        "client_parse_us",
        "us",
        "lower",
        "Time inside the functions that take bytes from the socket, a chunk with output.",
        "parse time / chunks",
    ),
    Metric(
        "client_peak_rss_bytes",
        "bytes",
        "lower",
        "Most resident memory of the load client's process.",
        "VmHWM, or ru_maxrss where there is no /proc, in bytes",
    ),
    Metric(
        "median_step_cpu_ms",
        "ms",
        "lower",
        "Median over decode steps of the CPU time that the worker's process spends in one; a GPU's work has none. "
        "Other processes on the machine change it far less than a wall-clock time: a gate on a shared CPU sees more.",
        "median over decode steps of (process CPU time after - before)",
    ),
)
