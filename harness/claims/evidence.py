"""What is known of a quantity: measured, computed, on a data sheet, or projected.

In: a Term. Out: Known, a span of values with its basis and sources, or the reason that nothing is known. Times and rates are
projected here for one workload; what to do where a claim names none is sweep.py's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.claims.grammar import Term
from harness.claims.verdicts import COMPUTED, DATA_SHEET, MEASURED
from harness.device import gpu_table
from harness.models import MIXTRAL_8X7B
from harness.project.curves import all_curves, data_file
from harness.project.experts import Routing
from harness.project.export import model_rows, quality_rows
from harness.project.gpus import gpu_spec
from harness.project.layer import LayerModel, LayerShape
from harness.project.memory import ModelShape, expert_bytes, fit, model_shape, other_weight_bytes
from harness.project.sharpness import shipped_sharpness

MODEL = "mixtral-8x7b"
DEFAULT_SEQUENCE = 2048
"""Tokens of the one sequence whose KV cache `memory` counts where a claim gives none."""
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Known:
    """Values from low to high; one number where they agree. `text` is the arithmetic or the figure with its interval."""

    low: float
    high: float
    basis: str
    text: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measured qualities and whole-model times, as data/calibration.json has them."""

    quality: tuple[dict, ...]
    models: tuple[dict, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why nothing is known, and what would change that."""

    reason: str


def mixtral() -> ModelShape:
    return model_shape(MODEL, MIXTRAL_8X7B)


def weights_of(term: Term) -> str:
    """Weight format of `with nvfp4-search-a16`; NVFP4 where a claim says only FP4."""
    return term.qualifiers.get("with", "nvfp4").split("-")[0]


def gather(runs: Iterable[Path] = ()) -> Evidence:
    """What ships, after the records of `runs`: a run's own figures count first."""
    shipped, folders = data_file("calibration.json"), list(runs)
    quality = [row for folder in folders for row in quality_rows(folder, str(folder))]
    models = [row for folder in folders for row in model_rows(folder, str(folder))]
    known_ids = {row["precision"] for row in quality}
    quality += [row for row in shipped["quality"] if row["precision"] not in known_ids]
    return Evidence(tuple(quality), (*models, *shipped["models"]))


def known(term: Term, evidence: Evidence) -> Known | Unknown:
    """Of a quantity that needs no workload to be swept."""
    if term.is_constant:
        return Known(term.number, term.number, COMPUTED, f"{term.number:g} {term.unit}".strip())
    if term.quantity.startswith("gpu."):
        return _data_sheet(term)
    if term.quantity in _MEASURED:
        return _MEASURED[term.quantity](term, evidence)
    return _FINDERS[term.quantity](term)


def _data_sheet(term: Term) -> Known | Unknown:
    name = term.qualifiers.get("on")
    if name is None:
        return Unknown("names no GPU; add `on GPU`")
    row = gpu_table()[name]
    value = {
        "gpu.bandwidth": row["bandwidth_tb_s"], "gpu.memory": row["memory_gb"], "gpu.fp4_tflops": row["fp4_tflops"] or 0.0,
    }.get(term.quantity)  # fmt: skip
    text = f"{name}: {row['memory_gb']} GB {row['memory_kind']}, {row['bandwidth_tb_s']} TB/s"
    text += f", FP4 {row['fp4_tflops']} TFLOP/s" if row["fp4_tflops"] else ", no FP4 unit"
    return Known(value or 0.0, value or 0.0, DATA_SHEET, text, (row["source"],))


def _memory(term: Term) -> Known | Unknown:
    shape, weights = mixtral(), weights_of(term)
    gpu = gpu_spec(term.qualifiers.get("on", "H100"))
    tokens = int(term.qualifiers.get("prompt", DEFAULT_SEQUENCE)) + int(term.qualifiers.get("output", 0))
    found = fit(shape, weights, gpu, tokens)
    total = (found.weight_bytes + found.activation_bytes + found.kv_bytes_a_sequence) / 1e9
    text = f"{found.arithmetic()}: {total:.1f} GB for one sequence of {tokens} tokens in {weights}"
    return Known(total, total, COMPUTED, text, ("harness/project/memory.py",))


def _weights(term: Term) -> Known:
    shape, weights = mixtral(), weights_of(term)
    total = (expert_bytes(shape, weights) + other_weight_bytes(shape)) / 1e9
    return Known(total, total, COMPUTED, f"{total:.1f} GB of weights in {weights}", ("harness/project/memory.py",))


def _num_models(term: Term) -> Known | Unknown:
    if "on" not in term.qualifiers:
        return Unknown("names no GPU; add `on GPU`")
    found = fit(mixtral(), weights_of(term), gpu_spec(term.qualifiers["on"]), DEFAULT_SEQUENCE)
    text = f"{found.num_models} in {weights_of(term)}: {found.arithmetic()}"
    return Known(found.num_models, found.num_models, COMPUTED, text)


def _compression(term: Term) -> Known:
    shape, weights = mixtral(), weights_of(term)
    others = 0 if term.quantity == "expert compression" else other_weight_bytes(shape)
    before, after = expert_bytes(shape, "bf16") + others, expert_bytes(shape, weights) + others
    text = f"{before / 1e9:.1f} GB / {after / 1e9:.1f} GB = {before / after:.2f}x in {weights}"
    text += " (experts alone)" if not others else f", of which {others / 1e9:.1f} GB stay BF16 in both"
    return Known(before / after, before / after, COMPUTED, text)


def _perplexity_change(term: Term, evidence: Evidence) -> Known | Unknown:
    wanted = term.qualifiers.get("with", "nvfp4")
    rows = [row for row in evidence.quality if _fits(row["precision"], wanted) and row["perplexity_change_pct"] is not None]
    if not rows:
        ids = ", ".join(row["precision"] for row in evidence.quality)
        return Unknown(f"no quality record of {wanted!r} (recorded: {ids}); add it to scenarios/quality.yaml and run that")
    ends = [row["perplexity_change_low_pct"] for row in rows], [row["perplexity_change_high_pct"] for row in rows]
    parts = [
        f"{row['precision']} {row['perplexity_change_pct']:+.2f} % "
        f"[{row['perplexity_change_low_pct']:+.2f}, {row['perplexity_change_high_pct']:+.2f}]"
        for row in rows
    ]
    text = f"{rows[0]['model']}, n = {rows[0]['num_tokens']} tokens: {'; '.join(parts)}"
    return Known(min(ends[0]), max(ends[1]), MEASURED, text, tuple(dict.fromkeys(row["source"] for row in rows)))


def _fits(precision: str, wanted: str) -> bool:
    """`nvfp4` fits every nvfp4 precision, an id only itself."""
    return precision == wanted or ("-" not in wanted and precision.split("-")[0] == wanted)


def _hot_share(term: Term, evidence: Evidence) -> Known | Unknown:
    if "experts" in term.qualifiers:
        counts = sorted((int(count) for count in term.qualifiers["experts"].split()), reverse=True)
        share = PERCENT * sum(counts[:2]) / sum(counts)
        return Known(share, share, COMPUTED, f"({counts[0]} + {counts[1]}) / {sum(counts)} = {share:.1f} %")
    rows = [row for row in evidence.quality if row.get("layer_counts")]
    if not rows:
        return Unknown("no recorded routing; run a scenario with `quality`")
    shares = [PERCENT * sum(sorted(layer)[-2:]) / sum(layer) for layer in rows[0]["layer_counts"]]
    text = f"router of {rows[0]['model']}, {len(shares)} layers: {min(shares):.1f} to {max(shares):.1f} % on the two hottest"
    even = 2 * PERCENT / len(rows[0]["layer_counts"][0])
    return Known(min(shares), max(shares), MEASURED, f"{text} ({even:.0f} % would be even)", (rows[0]["source"],))


def _layer_curves(term: Term):
    weights, gpu, kernel = weights_of(term), term.qualifiers.get("on"), term.qualifiers.get("kernel")
    activations = weights if term.qualifiers.get("with", "").endswith("-a4") else None
    for curve in all_curves():
        same = curve.weights == weights and gpu in (None, curve.gpu) and kernel in (None, curve.kernel)
        if same and activations in (None, curve.activations):
            yield curve


def _layer(term: Term) -> Known | Unknown:
    curves, batch = list(_layer_curves(term)), int(term.qualifiers.get("batch", 16))
    if not curves:
        what = " ".join(f"{key} {value}" for key, value in term.qualifiers.items())
        return Unknown(f"no measured layer: {what}; run `harness kernels bench` there")
    values, parts = [], []
    for curve in curves:
        model = LayerModel(curve, gpu_spec(curve.gpu), sharpness=shipped_sharpness().value)
        hit = Routing().experts_hit(batch)
        found = [p for p in curve.points if p.tokens == batch]
        us = found[0].us if found else model.predict(gpu_spec(curve.gpu), batch, hit).us
        hit = found[0].experts_hit if found else hit
        floor = hit * model.bytes_an_expert / curve.read_gb_s / 1e3
        limit = max(floor, LayerShape().flops(batch) / curve.product_tflops[model.kind] / 1e6)
        values.append(us if term.quantity == "layer time" else us / limit)
        stale = " (STALE: its sources have changed since)" if curve.is_stale else ""
        parts.append(f"{curve.kernel}{stale} on {curve.gpu}, {batch} tokens: {us:.0f} us, {us / limit:.2f}x its limit")
    sources = tuple(dict.fromkeys(curve.source for curve in curves))
    return Known(min(values), max(values), MEASURED, "; ".join(parts), sources)


_FINDERS = {
    "memory": _memory, "weights": _weights, "models that fit": _num_models, "compression": _compression,
    "expert compression": _compression, "layer time": _layer, "layer over limit": _layer,
}  # fmt: skip
_MEASURED = {"perplexity change": _perplexity_change, "hot share": _hot_share}
