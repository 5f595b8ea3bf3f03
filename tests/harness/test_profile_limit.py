"""The limit of a whole workload: each term by hand, and the same work as the roofline of a profiled step."""

import pytest

from harness.profile.limit import StepLimit, WorkloadLimit, decode_limit, prompts_limit
from harness.profile.roofline import points

READ, PRODUCT = 1000.0, 100.0
"""GB/s and TFLOP/s: a microsecond reads 1e6 bytes or does 1e8 operations."""
FACTS = {
    "num_layers": 2, "num_experts": 8, "top_k": 2, "hidden": 100, "intermediate": 1000, "vocab": 500, "heads": 4, "kv_heads": 2,
    "head_dim": 25, "expert_bytes": 4e6, "attention_bytes": 1e6, "head_bytes": 2e6, "router_bytes": 1e3,
    "kv_bytes_per_value": 2, "mean_context": 100, "decode_tokens": 4, "experts_hit": [5.0, 6.0], "product_kind": "bf16",
    "ceilings": {"best_read_gb_s": READ, "product_tflops": {"bf16": PRODUCT}},
}  # fmt: skip


def test_a_decode_step_reads_the_experts_hit_attention_cache_router_and_head():
    kv = 2 * 4 * 100 * 2 * 25 * 2
    num_bytes = (5 + 6) * 4e6 + 2 * (1e6 + kv + 1e3) + 2e6
    step = decode_limit(FACTS)
    assert step.us == pytest.approx(num_bytes / READ / 1e3) == step.read_us and step.bound_by == "read"


def test_it_is_the_sum_of_the_limits_that_a_profiled_step_is_held_against():
    names = [(name, layer) for layer in (0, 1) for name in ("attention", "route", "experts")] + [("head", None)]
    rows = [{"layer": layer, "name": name, "gpu_us": 1.0, "host_us": None, "calls": 1} for name, layer in names]
    placed = points({"facts": FACTS, "layers": rows})
    assert decode_limit(FACTS).us == pytest.approx(sum(point.limit_us for point in placed))


def test_many_requests_are_bound_by_products():
    many = decode_limit(FACTS | {"decode_tokens": 1_000_000, "mean_context": 0.0})
    experts = 2 * 1e6 * 2 * 3 * 100 * 1000 * 2  # two layers
    assert many.bound_by == "product" and many.us > experts / PRODUCT / 1e6


def test_prompts_are_one_pass_with_a_causal_triangle_and_one_head_a_prompt():
    facts = FACTS | {"ceilings": {"best_read_gb_s": 1e9, "product_tflops": {"bf16": PRODUCT}}}
    tokens = 3 * 1000
    layer = 2 * tokens * (2 * 3 * 100 * 1000 + 1e6 / 2 + 100 * 8) + 4 * tokens * 500 * 4 * 25
    flops = 2 * layer + 2 * 3 * 100 * 500
    found = prompts_limit(facts, num_prompts=3, prompt=1000, experts_hit=8.0)
    assert found.us == pytest.approx(flops / PRODUCT / 1e6)


def test_prompts_read_every_weight_once():
    facts = FACTS | {"ceilings": {"best_read_gb_s": READ, "product_tflops": {"bf16": 1e9}}}
    num_bytes = 2 * (8 * 4e6 + 1e6 + 1e3 + 2 * 3000 * 2 * 25 * 2) + 2e6
    assert prompts_limit(facts, num_prompts=3, prompt=1000, experts_hit=8.0).us == pytest.approx(num_bytes / READ / 1e3)


def test_throughput_counts_the_prompts_and_every_round_of_requests():
    step = StepLimit(1000.0, 1000.0, 1.0)
    once = WorkloadLimit(StepLimit(500.0, 1.0, 500.0), step, batch=4, output=11, num_requests=4)
    assert once.output_tokens_per_s == pytest.approx(4 * 11 / 10_500e-6) and once.decode_ms == 1.0
    twice = WorkloadLimit(StepLimit(500.0, 1.0, 500.0), step, batch=4, output=11, num_requests=8)
    assert twice.output_tokens_per_s == pytest.approx(8 * 11 / 20_500e-6)
