"""The roofline's limit of a measured cell of requests: what the device could do at most with the same batch and lengths.

In: a cell, ceilings. Out: `WorkloadLimit`, or the reason that there is none. Bytes are the record's own (codes and scales as
stored) where it has them, else computed from the format; experts hit are the recorded ones of the decode steps. Those of the
prompts are expected from the recorded histogram.
"""

from harness.errors import UsageError
from harness.kernel_bench.formats import PRODUCT_OF
from harness.profile.limit import WorkloadLimit, decode_limit, prompts_limit
from harness.project.experts import recorded_routing
from harness.project.export import batch_of
from harness.project.memory import ModelShape, expert_bytes
from harness.project.projection import model_by_name
from harness.report.ceilings import FoundCeilings
from harness.report.cells import MeasuredCell
from harness.report.variants import EXPERT_PARTS

BF16_BYTES = 2


def limit_of(cell: MeasuredCell, found: FoundCeilings) -> WorkloadLimit | str:
    """Limit of the whole workload; a reason where the record does not say enough."""
    workload, usage = cell.first["workload"], next((r["experts"] for r in cell.records if r.get("experts")), None)
    batch = batch_of(workload)
    if batch is None:
        return "requests arrive at a rate, or their lengths are drawn"
    if usage is None or usage["phase"] != "decode":
        return "the experts hit by a decode step were not recorded"
    if workload.get("shared_prefix"):
        return "a shared prefix need not be computed again, so a whole prompt is no limit"
    try:
        shape = model_by_name(_path_of(cell) or cell.model, "models")
    except UsageError as error:
        return f"the sizes of the model are not known here: {error}"
    prompt, output, num = workload["prompt_tokens"], workload["output_tokens"], workload["num_requests"]
    facts = _facts(cell, shape, found) | {"decode_tokens": batch, "mean_context": prompt + output / 2}
    facts["experts_hit"] = [layer["active_per_step"] for layer in usage["layers"]]
    routing = recorded_routing([layer["histogram"] for layer in usage["layers"]], usage["top_k"], cell.cell_id)
    prompts = prompts_limit(facts, num_prompts=num, prompt=prompt, experts_hit=routing.experts_hit(num * prompt))
    return WorkloadLimit(prompts, decode_limit(facts), batch, output, num)


def activations_of(cell: MeasuredCell) -> str:
    """The activation format whose product is the ceiling; FP32, for checks, is held against the faster BF16."""
    activations = cell.precision["activations"]
    return activations if activations in PRODUCT_OF else "bf16"


def _facts(cell: MeasuredCell, shape: ModelShape, found: FoundCeilings) -> dict:
    layers = shape.num_layers
    parts = [cell.number(name).median for name in EXPERT_PARTS]
    stored = sum(part or 0 for part in parts) if parts[0] is not None else expert_bytes(shape, cell.weights)
    attention, router = (cell.number(f"{name}_bytes").median for name in ("attention", "router"))
    cache = (cell.first.get("engine") or {}).get("kv_cache") or {}
    return {
        "num_layers": layers,
        "num_experts": shape.num_experts,
        "top_k": shape.top_k,
        "hidden": shape.hidden,
        "intermediate": shape.intermediate,
        "vocab": shape.vocab,
        "heads": shape.num_heads,
        "kv_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "expert_bytes": stored / (layers * shape.num_experts),
        "attention_bytes": attention / layers if attention else BF16_BYTES * shape.attention_weights,
        "head_bytes": BF16_BYTES * shape.vocab * shape.hidden,
        "router_bytes": router / layers if router else BF16_BYTES * shape.num_experts * shape.hidden,
        "kv_bytes_per_value": 1 if "fp8" in str(cache.get("dtype")) else BF16_BYTES,
        "product_kind": found.ceilings.product_kind(activations_of(cell)),
        "ceilings": found.ceilings.to_json(),
    }


def _path_of(cell: MeasuredCell) -> str | None:
    models = (cell.run.info.get("scenario") or {}).get("models") or ()
    return next((model.get("path") for model in models if model.get("name") == cell.model), None)
