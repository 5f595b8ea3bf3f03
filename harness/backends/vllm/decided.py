"""What vLLM decided, as a record has it: `implementation` rows like our own, and an `engine` block with everything else.

In: decisions of the log, what the driver told. Out: plain data. The log wins; where it says nothing, class names of the
loaded layers stand in, marked so.
"""

from harness.backends.vllm.log import Choice, Decisions


def implementation_rows(decisions: Decisions, layers: dict) -> list[dict]:
    """One row for the experts, in the form of harness.backends.selection.choice_row."""
    choice = decisions.moe
    method = ", ".join(layers.get("moe_method", []))
    chosen = choice.chosen if choice else method or "not told"
    candidates = f"candidates in vLLM's order: {', '.join(choice.candidates)}" if choice and choice.candidates else ""
    notes = [note for note in (f"method {method}" if method else "", candidates) if note]
    refused = [{"name": name, "reason": why} for name, why in choice.passed_over] if choice else []
    row = {"op": "experts", "chosen": f"vLLM {chosen}", "is_reference": False, "layout": None, "crossovers": []}
    return [row | {"source": "vLLM's log" if choice else "class name", "notes": notes, "call_tokens": None, "refused": refused}]


def engine_block(decisions: Decisions, described: dict, args: dict) -> dict:
    """The record's `engine`: versions, what was chosen, sizes, arguments."""
    return {
        "name": "vllm",
        "version": described["vllm"],
        "torch": described["torch"],
        "device": described["device"],
        "load_s": round(described["load_s"], 2),
        "attention": choice_block(decisions.attention, described["layers"].get("attention", [])),
        "moe": choice_block(decisions.moe, described["layers"].get("moe_method", [])),
        "quantization": described["quantization"],
        "kv_cache": {
            "num_blocks": described["num_kv_blocks"],
            "block_tokens": described["kv_block_tokens"],
            "dtype": described["kv_dtype"],
            "tokens": decisions.kv_cache_tokens,
        },
        "gpu_allocated_bytes": described["gpu_allocated_bytes"],
        "weights_gib_by_log": decisions.weights_gib,
        "graphs_gib_by_log": decisions.graphs_gib,
        "is_eager": described["enforce_eager"],
        "cpu_threads": described["threads"],
        "routing_refused": described["routing_refused"],
        "args": args,
    }


def choice_block(choice: Choice | None, names: list[str]) -> dict:
    """A choice as data; `names` are class names to fall back on."""
    if choice is None:
        return {
            "chosen": ", ".join(names) or None,
            "source": "class name" if names else "not told",
            "candidates": [],
            "passed_over": [],
        }
    passed_over = [{"name": name, "reason": why} for name, why in choice.passed_over]
    return {"chosen": choice.chosen, "source": "log", "candidates": list(choice.candidates), "passed_over": passed_over}
