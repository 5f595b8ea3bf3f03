"""Memory by cause, in bytes held.

In: nothing. Out: MEMORY.
"""

from harness.metrics.metric import Metric

# By cause: definition, formula.
_CAUSES = {
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
        "Most bytes alive at one time of tensors allocated inside a step; weights and KV cache left out, and what CUDA graphs "
        "hold of their steps (graph_pool_bytes).",
        "max over steps of peak live bytes in the step",
    ),
    "process_peak_rss_bytes": (
        "Most resident host memory of the worker process since its start: libraries, weights and all else.",
        "VmHWM, or ru_maxrss where there is no /proc, in bytes",
    ),
}

MEMORY = tuple(Metric(name, "bytes", "lower", definition, formula) for name, (definition, formula) in _CAUSES.items())
