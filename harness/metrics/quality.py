"""How well a model predicts held-out text, and how far its answers agree with another's.

In: nothing. Out: QUALITY. NLL = - ln p(token), summed over scored tokens; a = the BF16 baseline, b = this run.
"""

from harness.metrics.metric import Metric

QUALITY = (
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
