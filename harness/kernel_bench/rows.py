"""The columns of rows.jsonl: one row a (kernel, format, tokens). Each column is defined here, once.

In: what was measured. Out: a dict that `validate` accepts. A figure that was not measured is null, and `reason` says why;
a kernel whose output is wrong has no speed. No torch.
"""

from __future__ import annotations

from typing import NamedTuple

SCHEMA_VERSION = 1
OK, CHECKED = "ok", "checked"
FAILED, NOT_RUN, OUT_OF_MEMORY, ERROR = "failed check", "not run", "out of memory", "error"
STATUSES = (OK, CHECKED, FAILED, NOT_RUN, OUT_OF_MEMORY, ERROR)
REFERENCE_LABEL = "CPU, wall clock; reference is not FP4's speed"


class Column(NamedTuple):
    """A type and a meaning; `can_be_null` where a row may lack it."""

    kind: type | tuple[type, ...]
    meaning: str
    can_be_null: bool = False


_N = (int, float)
COLUMNS: dict[str, Column] = {
    "status": Column(str, f"one of {', '.join(STATUSES)}"),
    "reason": Column(str, "why there is no speed", True),
    "model": Column(str, "whose layer"),
    "hidden": Column(int, "D"),
    "intermediate": Column(int, "F"),
    "num_experts": Column(int, "E"),
    "top_k": Column(int, "experts a token"),
    "weights": Column(str, "weight format"),
    "activations": Column(str, "activation format at both products"),
    "format": Column(str, "weight format x activation format, for people"),
    "kernel": Column(str, "implementation or peer"),
    "is_peer": Column(bool, "another project's kernel"),
    "is_reference": Column(bool, "plain torch: its speed is not the format's speed"),
    "layout": Column(str, "form of the packed weights"),
    "note": Column(str, "version, configuration"),
    "label": Column(str, "what must stand beside the speed", True),
    "tokens": Column(int, "T"),
    "routing": Column(str, "how expert ids were drawn"),
    "routing_parameters": Column(dict, "its parameters"),
    "ids_seed": Column(int, "seed of the expert ids"),
    "copies": Column(int, "copies of the layer, each with its own weights and ids, that a timed run goes through"),
    "experts_hit": Column(_N, "experts with at least one token, mean over the copies"),
    "slots_by_expert": Column(list, "slots each expert takes in copy 0"),
    "us_median": Column(_N, "microseconds a layer, median over the repeats", True),
    "us_iqr": Column(_N, "distance of the quartiles over the repeats", True),
    "repeats": Column(int, "n"),
    "us_samples": Column(list, "microseconds a layer of every repeat", True),
    "timing": Column(str, "how time was taken", True),
    "interleaved_with": Column(list, "who was timed in turn with it"),
    "weight_bytes": Column(_N, "codes and block scales of the experts hit"),
    "flops": Column(_N, "operations of both products"),
    "weight_gb_s": Column(_N, "weight_bytes over the median", True),
    "tflops": Column(_N, "flops over the median", True),
    "share_of_read_ceiling": Column(_N, "weight_gb_s over the best read pattern of this run", True),
    "share_of_product_ceiling": Column(_N, "tflops over the product of this run", True),
    "product_ceiling": Column(str, "operands of that product", True),
    "limit_us": Column(_N, "max(weight_bytes / read ceiling, flops / product ceiling)", True),
    "limit_bound_by": Column(str, "which of the two", True),
    "ratio_to_limit": Column(_N, "us_median over limit_us", True),
    "relative_error": Column(_N, "of the worst token of the worst case, against the reference", True),
    "error_bound": Column(_N, "what rounding explains"),
    "error_case": Column(str, "the worst case", True),
    "passed": Column(bool, "relative_error within error_bound, NaN handled; null where it could not be checked", True),
    "not_checked": Column(str, "why it could not be checked", True),
    "perplexity": Column(_N, "of pocket-mixtral under this very kernel", True),
    "perplexity_reference_perplexity": Column(_N, "under the reference implementation, same precision", True),
    "perplexity_bf16_perplexity": Column(_N, "of BF16 x BF16 under the reference implementation", True),
    "perplexity_within_tolerance": Column(bool, "within 0.1 % of the reference implementation's", True),
    "perplexity_precision": Column(str, "precision with its quantization method", True),
    "perplexity_reason": Column(str, "why there is none", True),
    "kernel_sources_sha256": Column(str, "hash over the sources of fp4moe"),
    "own_sources_sha256": Column(str, "hash over the source files that the selection table names for this kernel", True),
    "gpu": Column(str, "device"),
}


def validate(row: dict) -> dict:
    """The row itself; ValueError naming the column that is missing, unknown, of another type or null without need."""
    if unknown := [name for name in row if name not in COLUMNS]:
        raise ValueError(f"row: {unknown[0]}: no such column")
    for name, column in COLUMNS.items():
        if name not in row:
            raise ValueError(f"row: {name}: missing ({column.meaning})")
        value = row[name]
        if value is None and column.can_be_null:
            continue
        is_wrong_bool = isinstance(value, bool) and column.kind is not bool
        if not isinstance(value, column.kind) or is_wrong_bool:
            raise ValueError(f"row: {name}: must be {column.kind} (got {value!r})")
    if row["status"] not in STATUSES:
        raise ValueError(f"row: status: must be one of {', '.join(STATUSES)} (got {row['status']!r})")
    if (row["us_median"] is not None) != (row["status"] == OK):
        raise ValueError(f"row: us_median: a row has a speed exactly when its status is {OK!r} (got {row['status']!r})")
    if row["us_median"] is not None and row["passed"] is not True and row["not_checked"] is None:
        raise ValueError("row: us_median: a kernel whose output is wrong has no speed")
    return row
