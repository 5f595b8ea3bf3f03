"""Every metric of a record, defined once: name, unit, which way is better, definition, formula.

In: the rows of the modules here, one a family. Out: METRICS by name. Names follow vLLM's result JSON where it has one
(`request_throughput`, `output_throughput`, `total_token_throughput`, `{mean,median,std,pNN}_{ttft,tpot,itl,e2el}_ms`).
Computes nothing and imports nothing heavy. `primary` says which of them can be judged over repeats.

Where the figures differ from vLLM's of the same name: latency counts from the scheduled time, std divides by
n - 1, and a percentile is null below the n that can have seen it (`harness.stats.summary`).
"""

from harness.metrics.cost import COST
from harness.metrics.latency import LATENCY, STEADY_LATENCY, TAILS
from harness.metrics.memory import MEMORY
from harness.metrics.metric import Metric, by_name
from harness.metrics.quality import QUALITY
from harness.metrics.serving import SERVING
from harness.metrics.telemetry import TELEMETRY
from harness.metrics.throughput import THROUGHPUT
from harness.metrics.waits import WAITS

_LOAD = WAITS + TAILS + STEADY_LATENCY + SERVING
METRICS: dict[str, Metric] = by_name(THROUGHPUT + LATENCY + _LOAD + COST + QUALITY + MEMORY + TELEMETRY)
