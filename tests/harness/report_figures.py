"""Invented but consistent figures for the report's tests: metrics, expert usage, request samples of a cell.

In: weight format, workload, speed. Out: the `metrics` and `experts` of a record, and rows of request samples.
The sizes are pocket-mixtral's (5 layers, 8 experts, hidden 256, intermediate 128). Nothing here was measured.
"""

import numpy as np

NUM_LAYERS, NUM_EXPERTS, TOP_K = 5, 8, 2
NUM_EXPERT_WEIGHTS = NUM_LAYERS * NUM_EXPERTS * 3 * 256 * 128
NUM_TOKENS = 65536
REQUESTS = {
    "single": {"concurrency": 1, "num_requests": 8},
    "batch8": {"concurrency": 8, "num_requests": 24},
}
PERCENT_COSTS = {"nvfp4": 1.31, "mxfp4": 2.94, "fp8": 0.08, "int4": 1.9, "ternary": 61.0}
# bits a weight: codes, scales
WEIGHT_BITS = {
    "bf16": (16, 0),
    "fp8": (8, 0.01),
    "nvfp4": (4, 0.5),
    "mxfp4": (4, 0.25),
    "int4": (4, 0.5),
    "ternary": (2, 0.25),
}
KEPT_BYTES = {"attention": 1966080, "embedding": 1048576, "router": 20480, "norm": 5632}
OTHER_BYTES = sum(KEPT_BYTES.values())
STATISTICS = {"mean": 1.0, "median": 1.0, "std": 0.1, "p50": 1.0, "p90": 1.2, "p95": 1.25, "p99": 1.4}


def metric(value: float | None, unit: str, *, n: int = 1, reason: str | None = None) -> dict:
    return {"value": value, "unit": unit, "n": n, "reason": reason}


def memory(weights: str, workload: str) -> dict:
    """Memory by cause; scoring has no KV cache, with a reason."""
    code_bits, scale_bits = WEIGHT_BITS[weights]
    parts = {
        "expert_codes": NUM_EXPERT_WEIGHTS * code_bits / 8,
        "expert_scales": NUM_EXPERT_WEIGHTS * scale_bits / 8,
        "expert_tensor_scales": NUM_LAYERS * NUM_EXPERTS * 2 * 4 if weights == "nvfp4" else 0,
        **KEPT_BYTES,
    }
    found = {f"{name}_bytes": metric(value, "bytes") for name, value in parts.items()}
    found["weight_bytes"] = metric(sum(parts.values()), "bytes")
    slots = REQUESTS.get(workload, {}).get("concurrency", 0)
    found["kv_cache_bytes"] = (
        metric(slots * 256 * 2560, "bytes") if slots else metric(None, "bytes", n=0, reason="scoring keeps no KV cache")
    )
    found["activation_peak_bytes"] = metric(380_000 * max(slots, 1), "bytes")
    found["process_peak_rss_bytes"] = metric(612_000_000, "bytes")
    return found


def quality(weights: str, *, has_baseline: bool) -> dict:
    """Perplexity, and its change where there is a BF16 cell to hold against."""
    cost = PERCENT_COSTS.get(weights, 0.0)
    perplexity = 18.42 * (1 + cost / 100)
    found = {
        "perplexity": metric(perplexity, "1", n=NUM_TOKENS),
        "bits_per_byte": metric(1.21 * (1 + cost / 900), "bits/byte", n=NUM_TOKENS),
        "mean_nll_nats": metric(float(np.log(perplexity)), "nats", n=NUM_TOKENS),
        "num_scored_tokens": metric(NUM_TOKENS, "tokens", n=NUM_TOKENS),
    }
    ends = {"": 0.0, "low_": -0.2, "high_": 0.2}
    if weights == "bf16" or not has_baseline:
        reason = "no BF16 run of this model in this run to hold against"
        if weights == "bf16":
            reason = "this is the BF16 run that the others are held against"
        names = (*(f"perplexity_change_{end}pct" for end in ends), "mean_kl_nats", "top1_agreement_pct")
        return found | {name: metric(None, "%", n=0, reason=reason) for name in names}
    changes = {f"perplexity_change_{end}pct": metric(cost + by, "%", n=NUM_TOKENS) for end, by in ends.items()}
    divergence = {
        "mean_kl_nats": metric(0.0091 * cost, "nats", n=NUM_TOKENS),
        "top1_agreement_pct": metric(97.1 - cost, "%", n=NUM_TOKENS),
    }
    return found | changes | divergence


def speed(output: float, workload: str) -> dict:
    """All speed metrics from the output tokens/s; the single workload has too few requests for a p99."""
    num = REQUESTS[workload]["num_requests"]
    concurrency = REQUESTS[workload]["concurrency"]
    rates = {"output": 1.0, "decode": 1.22, "prefill": 6.1, "total_token": 3.0}
    found = {f"{name}_throughput": metric(by * output, "tokens/s", n=num) for name, by in rates.items()}
    found["request_throughput"] = metric(output / 32, "requests/s", n=num)
    gap_ms = 820.0 * concurrency / output
    centers = {"ttft": 11 * gap_ms, "tpot": 1.02 * gap_ms, "itl": gap_ms, "e2el": 42 * gap_ms}
    for name, center in centers.items():
        for statistic, by in STATISTICS.items():
            found[f"{statistic}_{name}_ms"] = metric(by * center, "ms", n=num)
    if num < 20:
        found["p99_ttft_ms"] = metric(None, "ms", n=num, reason=f"{num} requests; a p99 needs 100")
    return found


def experts(weights: str, workload: str) -> dict:
    """Usage by layer, nearly the same for all formats, and cache hit rates for the request workloads."""
    rng = np.random.default_rng([len(weights), len(workload)])
    shares = np.random.default_rng(11).dirichlet(np.full(NUM_EXPERTS, 5.0), size=NUM_LAYERS)
    shares *= 1 + (0 if weights == "bf16" else 0.03) * rng.standard_normal(shares.shape)
    total = TOP_K * (NUM_TOKENS if workload == "heldout" else 6400)
    active = {"single": 2.0, "batch8": 6.3}.get(workload, 8.0)
    shares /= shares.sum(axis=1, keepdims=True)
    return {
        "num_experts": NUM_EXPERTS,
        "top_k": TOP_K,
        "phase": "score" if workload == "heldout" else "decode",
        "layers": [_layer(index, share, total, active) for index, share in enumerate(shares)],
        "cache": [] if workload == "heldout" else _cache(weights),
    }


def _layer(index: int, share: np.ndarray, total: int, active: float) -> dict:
    ordered = np.sort(share)
    return {
        "layer": index,
        "histogram": [int(count) for count in np.round(share * total)],
        "max_over_mean": float(NUM_EXPERTS * share.max()),
        "cv": float(NUM_EXPERTS * share.std()),
        "gini": float((2 * np.arange(1, 9) - 9) @ ordered / 8),
        "entropy_bits": float(-(share * np.log2(share)).sum()),
        "active_per_step": active,
        "top2_share": float(ordered[-2:].sum()),
    }


def _cache(weights: str) -> list[dict]:
    slot_bytes = NUM_EXPERT_WEIGHTS // NUM_EXPERTS * sum(WEIGHT_BITS[weights]) / 8
    powers = {"lru": 0.85, "lfu": 0.75, "belady": 0.5}
    return [
        {
            "slots_per_layer": slots,
            "budget_bytes": slots * slot_bytes,
            "policy": policy,
            "hit_rate": (slots / NUM_EXPERTS) ** power,
            "num_accesses": 32000,
        }
        for slots in range(1, NUM_EXPERTS + 1)
        for policy, power in powers.items()
    ]


def request_rows(metrics: dict, workload: str, rng: np.random.Generator) -> list[dict]:
    """Requests served first come first served in as many slots as the workload's concurrency; times in ns."""
    size = REQUESTS[workload]
    first_ns, gap_ns = (1e6 * metrics[f"median_{name}_ms"]["value"] for name in ("ttft", "itl"))
    free_ns, rows, zero_ns = [0.0] * size["concurrency"], [], 5e12
    for index in range(size["num_requests"]):
        slot, num_tokens = int(np.argmin(free_ns)), int(rng.integers(20, 40))
        submitted = free_ns[slot]
        first = submitted + first_ns * rng.uniform(0.8, 1.2)
        gaps = gap_ns * rng.uniform(0.9, 1.1, num_tokens - 1)
        times = first + np.concatenate(([0.0], np.cumsum(gaps)))
        free_ns[slot] = float(times[-1])
        stamps = {
            "scheduled_ns": max(0.0, submitted - 2e6),
            "submitted_ns": submitted,
            "first_token_ns": first,
            "end_ns": times[-1],
        }
        rows.append(
            {
                "request_id": f"r{index}",
                **{name: int(zero_ns + value) for name, value in stamps.items()},
                "prompt_tokens": 64,
                "output_tokens": num_tokens,
                "ttft_ms": (first - submitted) / 1e6,
                "tpot_ms": gap_ns / 1e6,
                "e2el_ms": (times[-1] - submitted) / 1e6,
                "token_times_ns": [int(zero_ns + value) for value in times],
            }
        )
    return rows
