"""Every metric of a record, defined once: name, unit, which way is better, definition, formula.

In: nothing. Out: METRICS by name. Names follow vLLM's result JSON where it has one (`request_throughput`,
`output_throughput`, `total_token_throughput`, `{mean,median,std,pNN}_{ttft,tpot,itl,e2el}_ms`). Computes
nothing and imports nothing heavy.

Where the figures differ from vLLM's of the same name: latency counts from the scheduled time, std divides by
n - 1, and a percentile is null below the n that can have seen it (`harness.stats.summary`).

Symbols: wall = last token of all requests - first submission; NLL = - ln p(token), summed over scored tokens;
a = the BF16 baseline, b = this run.
"""

from dataclasses import dataclass
from typing import Literal

from harness.metrics_telemetry import TELEMETRY

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What one figure means. `direction` says which way is better; "none": not to be judged."""

    name: str
    unit: str
    direction: Direction
    definition: str
    formula: str


_THROUGHPUT = (
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

# Latency by short name: definition, formula of one sample.
_LATENCIES = {
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
_STATISTICS = {
    "mean": ("Mean", "mean"),
    "median": ("Median", "median"),
    "std": ("Sample standard deviation (over n - 1, n >= 2)", "std"),
    "p50": ("50th percentile, linear", "p50"),
    "p90": ("90th percentile, linear (n >= 10)", "p90"),
    "p95": ("95th percentile, linear (n >= 20)", "p95"),
    "p99": ("99th percentile, linear (n >= 100)", "p99"),
}

_LATENCY = tuple(
    Metric(f"{prefix}_{latency}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
    for latency, (meaning, sample) in _LATENCIES.items()
    for prefix, (words, function) in _STATISTICS.items()
)

# What the load client says of itself and of waiting, by short name: definition, formula of one sample.
_WAITS = {
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
_EXTREME = {"p99.9": ("99.9th percentile, linear (n >= 10000)", "p99.9")}
_STEADY = {"median": _STATISTICS["median"], "p99": _STATISTICS["p99"]}

_SERVING = (
    *(
        Metric(f"{prefix}_{wait}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
        for wait, (meaning, sample) in _WAITS.items()
        for prefix, (words, function) in _STATISTICS.items()
    ),
    *(
        Metric(f"{prefix}_{latency}_ms", "ms", "lower", f"{words} of {meaning}.", f"{function}({sample})")
        for latency, (meaning, sample) in _LATENCIES.items()
        for prefix, (words, function) in _EXTREME.items()
    ),
    *(
        Metric(
            f"steady_{prefix}_{latency}_ms",
            "ms",
            "lower",
            f"{words}, over requests that were due in the steady window, of {meaning}.",
            f"{function}({sample} for scheduled in window)",
        )
        for latency, (meaning, sample) in _LATENCIES.items()
        for prefix, (words, function) in _STEADY.items()
    ),
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
)

_CPU = (
    Metric(
        "median_step_cpu_ms",
        "ms",
        "lower",
        "Median over decode steps of the CPU time that the worker's process spends in one; a GPU's work has none. "
        "Other processes on the machine change it far less than a wall-clock time: a gate on a shared CPU sees more.",
        "median over decode steps of (process CPU time after - before)",
    ),
)

_QUALITY = (
    Metric(
        "perplexity",
        "1",
        "lower",
        "Geometric mean over scored tokens of 1 / p(token); compares only runs with one tokenizer.",
        "exp(sum of NLL / tokens)",
    ),
    Metric(
        "bits_per_byte",
        "bits/byte",
        "lower",
        "NLL in bits over the UTF-8 bytes of the scored text; compares across tokenizers.",
        "sum of NLL / (ln 2 * bytes)",
    ),
    Metric("mean_nll_nats", "nats", "lower", "Mean NLL of a scored token.", "sum of NLL / tokens"),
    Metric(
        "perplexity_change_pct",
        "%",
        "lower",
        "Change of perplexity against BF16 on the same tokens, paired by token.",
        "100 * (exp(mean(NLL_b - NLL_a)) - 1)",
    ),
    Metric(
        "perplexity_change_low_pct",
        "%",
        "none",
        "Lower end of the 95 % paired interval of perplexity_change_pct, clustered by window.",
        "100 * (exp(mean(NLL_b - NLL_a) - t * standard error) - 1)",
    ),
    Metric(
        "perplexity_change_high_pct",
        "%",
        "none",
        "Upper end of the 95 % paired interval of perplexity_change_pct, clustered by window.",
        "100 * (exp(mean(NLL_b - NLL_a) + t * standard error) - 1)",
    ),
    Metric(
        "mean_kl_nats",
        "nats",
        "lower",
        "Mean over scored positions of the divergence of this run's next-token distribution from BF16's.",
        "mean over positions of KL(p_BF16 || p_this) = mean of sum of p_a * ln(p_a / p_b)",
    ),
    Metric(
        "top1_agreement_pct",
        "%",
        "higher",
        "Share of scored positions where the most likely next token is BF16's.",
        "100 * mean over positions of (argmax p_a == argmax p_b)",
    ),
    Metric(
        "perplexity_vs_native_pct",
        "%",
        "none",
        "Difference of perplexity from the native backend's in the same precision on the same tokens, paired by token.",
        "100 * (exp(mean(NLL_this - NLL_native)) - 1)",
    ),
    Metric(
        "greedy_agreement_pct",
        "%",
        "higher",
        "Share of greedy output tokens before the first that differs from the native backend's answer to the same request.",
        "100 * sum over requests of tokens before the first difference / output tokens of the native backend",
    ),
    Metric(
        "identical_outputs_pct",
        "%",
        "higher",
        "Share of requests whose greedy answer is the native backend's, token by token.",
        "100 * identical answers / requests answered by both",
    ),
    Metric("num_scored_tokens", "tokens", "none", "Tokens whose NLL was taken.", "count of scored tokens"),
)

# Memory by cause: definition, formula.
_MEMORY_CAUSES = {
    "expert_codes_bytes": (
        "Storage of the experts' weight codes, all layers (of the weights themselves in BF16), with a packed layout's padding.",
        "sum over experts of bytes held - bytes of scales - bytes of tensor scales",
    ),
    "expert_scales_bytes": (
        "Storage of the experts' block or row scales.",
        "sum over experts of bytes of scales",
    ),
    "expert_tensor_scales_bytes": (
        "Storage of the experts' tensor scales.",
        "sum over experts of bytes of tensor scales",
    ),
    "attention_bytes": (
        "Storage of the query, key, value and output projections.",
        "sum over layers of bytes of projections",
    ),
    "embedding_bytes": (
        "Storage of the token embedding, and of the output head where it is not tied to it.",
        "bytes of embedding + bytes of an untied head",
    ),
    "router_bytes": ("Storage of the routers' weights.", "sum over layers of bytes of the router"),
    "norm_bytes": ("Storage of the norms' weights.", "sum over norms of bytes"),
    "weight_bytes": (
        "Storage of all weights: the seven causes above together.",
        "expert_codes_bytes + expert_scales_bytes + expert_tensor_scales_bytes + attention_bytes"
        " + embedding_bytes + router_bytes + norm_bytes",
    ),
    "kv_cache_bytes": (
        "Storage reserved for the keys and values of all slots, used or not.",
        "2 * layers * slots * context * kv heads * head size * bytes a value",
    ),
    "activation_peak_bytes": (
        "Most bytes alive at one time of tensors allocated inside a step; weights and KV cache left out.",
        "max over steps of peak live bytes in the step",
    ),
    "process_peak_rss_bytes": (
        "Most resident host memory of the worker process since its start: libraries, weights and all else.",
        "VmHWM, or ru_maxrss where there is no /proc, in bytes",
    ),
}

_MEMORY = tuple(Metric(name, "bytes", "lower", definition, formula) for name, (definition, formula) in _MEMORY_CAUSES.items())


def by_name(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    """The metrics keyed by name; ValueError when a name stands twice."""
    names = [metric.name for metric in metrics]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"metrics: a name must be defined once (twice: {twice}); remove one definition")
    return dict(zip(names, metrics, strict=True))


_TELEMETRY = tuple(Metric(*row) for row in TELEMETRY)

METRICS: dict[str, Metric] = by_name(_THROUGHPUT + _LATENCY + _SERVING + _CPU + _QUALITY + _MEMORY + _TELEMETRY)

EXACT = frozenset(metric.name for metric in _QUALITY + _MEMORY) - {"process_peak_rss_bytes"}
"""Figures that a repeat on the same machine gives again to the last digit."""


def is_exact(name: str) -> bool:
    """Whether repeats of a metric are equal by nature, so that a test over repeats says nothing."""
    return name in EXACT


def primary_problem(name: str) -> str | None:
    """Why a metric cannot be judged over repeats; None when it can."""
    if name not in METRICS:
        return "no metric of that name; see harness/metrics.py or the Definitions of a report"
    if METRICS[name].direction == "none":
        return "has no better and worse, so it cannot be judged"
    if is_exact(name):
        return "is the same in every repeat; gate it under `exact`, without repeats"
    return None
