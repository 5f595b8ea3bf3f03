"""Tokens and requests a second.

In: nothing. Out: THROUGHPUT. wall = last token of all requests - first submission.
"""

from harness.metrics.metric import Metric

THROUGHPUT = (
    Metric(
        "prefill_throughput",
        "tokens/s",
        "higher",
        "Prompt tokens over the time inside prefill steps; waiting and decoding left out.",
        "prompt tokens / sum over prefill steps of (end - start)",
    ),
    Metric(
        "decode_throughput",
        "tokens/s",
        "higher",
        "Tokens emitted by decode steps over the time inside decode steps; prefill left out.",
        "tokens emitted by decode steps / sum over decode steps of (end - start)",
    ),
    Metric(
        "output_throughput",
        "tokens/s",
        "higher",
        "Output tokens over the wall time from first submission to last token, prefill included.",
        "output tokens / wall",
    ),
    Metric(
        "total_token_throughput",
        "tokens/s",
        "higher",
        "Prompt and output tokens over the same wall time as output_throughput.",
        "(prompt tokens + output tokens) / wall",
    ),
    Metric(
        "request_throughput",
        "requests/s",
        "higher",
        "Completed requests over the same wall time as output_throughput.",
        "completed requests / wall",
    ),
)
