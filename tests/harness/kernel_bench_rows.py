"""Invented rows of a bench, for tests of what is made from rows: nothing here was measured.

In: kernel names with a curve of microseconds. Out: rows that `validate` accepts, and bench.json's facts beside them.
"""

from harness.kernel_bench import limits
from harness.kernel_bench.formats import parse_format
from harness.kernel_bench.rows import COLUMNS, OK, validate
from harness.kernel_bench.shapes import MIXTRAL_8X7B

CEILINGS = limits.Ceilings({"sum of float32": 4000.0, "streaming load": 4200.0}, {"bf16": 780.0, "fp8": 1400.0})
COUNTS = tuple(2**power for power in range(13))
GPU = "NVIDIA H200"


def row(kernel: str, tokens: int, us: float, *, format_id: str = "nvfp4-a16", layout: str = "rows", **changes) -> dict:
    """A measured row at `us` microseconds; `changes` replace columns."""
    form = parse_format(format_id)
    hit = 8 * (1 - 0.75**tokens)
    limit = limits.limit_of(MIXTRAL_8X7B, form, tokens, experts_hit=hit, ceilings=CEILINGS)
    made = dict.fromkeys(COLUMNS) | {
        "status": OK, "model": "mixtral-8x7b", "hidden": 4096, "intermediate": 14336, "num_experts": 8, "top_k": 2,
        "weights": form.weights, "activations": form.activations, "format": form.label, "kernel": kernel,
        "is_peer": False, "is_reference": False, "layout": layout, "note": "", "tokens": tokens, "routing": "uniform",
        "routing_parameters": {}, "ids_seed": 0, "copies": 4, "experts_hit": hit, "slots_by_expert": [tokens * 2] + [0] * 7,
        "us_median": us, "us_iqr": us * 0.01, "repeats": 3, "us_samples": [us, us, us], "timing": "invented",
        "interleaved_with": [], "weight_bytes": limit.weight_bytes, "flops": limit.flops,
        "product_ceiling": limit.product_kind, "limit_us": limit.us, "limit_bound_by": limit.bound_by,
        "relative_error": 0.002, "error_bound": 0.0098, "error_case": "17 tokens", "passed": True,
        "perplexity_reason": "invented row", "kernel_sources_sha256": "0" * 64, "gpu": GPU,
    }  # fmt: skip
    return validate(made | limits.figures(limit, us, CEILINGS) | changes)


def info() -> dict:
    """bench.json's facts that tables and plots read."""
    return {
        "timed_region": "invented",
        "ceilings": CEILINGS.to_json(),
        "absent": [{"name": "triton-w4a4", "format": "nvfp4-a16", "reason": "needs sm_100"}],
    }


def curve(kernel: str, start_us: float, us_a_token: float, *, up_to: int = 4096, **changes) -> list[dict]:
    """Rows of a kernel that takes max(start, tokens * us_a_token), never faster than its limit."""
    rows = []
    for tokens in COUNTS:
        if tokens <= up_to:
            slowest = max(start_us * (1 - 0.75**tokens), tokens * us_a_token)
            made = row(kernel, tokens, slowest, **changes)
            rows.append(row(kernel, tokens, max(slowest, made["limit_us"] * 1.08), **changes))
    return rows
