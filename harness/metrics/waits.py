"""Waiting before a request is sent, and how late the load client itself was: a sample's definition times a statistic.

In: nothing. Out: WAITS.
"""

from harness.metrics.latency import STATISTICS
from harness.metrics.metric import Metric

# By short name: definition, formula of one sample.
_SAMPLES = {
    "queue": (
        "wait of a request that was due for a free slot under the cap on requests in flight",
        "slot free - scheduled",
    ),
    "send_lag": ("lateness of the client itself: from when a request could be sent to when it got to it", "dispatched - ready"),
    "connect": (
        "time from dispatching a request to its bytes being sent: that of a new connection, where one was needed",
        "sent - dispatched",
    ),
    "loop_lag": ("lateness of a timer of the client: how late a time stamp can be", "called - due"),
}

WAITS = tuple(
    Metric(f"{prefix}_{wait}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
    for wait, (meaning, sample) in _SAMPLES.items()
    for prefix, (words, function) in STATISTICS.items()
)
