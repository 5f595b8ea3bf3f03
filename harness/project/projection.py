"""Project one workload of one model on one GPU by one kernel: memory, throughput, time to first token and per token.

In: names and numbers. Out: Projection, with every figure as an Estimate, what it was computed from, and its record. What
does not fit has no speed: `reason` says why, with the arithmetic. Raises UsageError for what cannot be asked.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.models import ModelSource, resolve
from harness.project.engines import engine_costs, run_span
from harness.project.estimate import Estimate, of_rate, of_time
from harness.project.experts import Routing
from harness.project.gpus import GpuSpec
from harness.project.kernels import Candidate, candidates_on, curve_for, layer_model
from harness.project.layer import MIXTRAL_EXPERT_WEIGHTS, Ceilings
from harness.project.loo import expected_error_pct
from harness.project.memory import BITS, Fit, ModelShape, fit, model_shape
from harness.project.sharpness import shipped_sharpness
from harness.project.step import StepModel
from harness.scenario.schema import ModelSpec

SCHEMA_VERSION = 1
MAX_TOKENS = 10_000_000
MAX_SIZE_RATIO = 8.0
"""Weights of an expert over or under the measured layer's, up to which times are scaled with them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A workload: `batch` requests of `prompt` tokens in and `output` out, sent at once."""

    prompt: int
    output: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Projection:
    """What one candidate would do. `metrics` is empty where `reason` says why."""

    gpu: GpuSpec
    model: ModelShape
    candidate: Candidate
    ask: Ask
    fit: Fit
    metrics: dict[str, Estimate]
    basis: tuple[str, ...]
    reason: str | None = None
    step: StepModel | None = None

    @property
    def is_validated(self) -> bool:
        """Whether the architecture was measured, and the kernel itself and not a stand-in."""
        return is_validated(self.gpu, self.candidate)

    @property
    def notes(self) -> str:
        """What must stand beside the kernel's name: a stand-in, stale layer times."""
        is_stale = self.step is not None and self.step.layer.curve.is_stale
        found = [name for name, holds in (("stand-in", self.candidate.stand_in), ("stale layers", is_stale)) if holds]
        return f" ({', '.join(found)})" if found else ""

    @property
    def label(self) -> str:
        return f"{FORMATS[self.candidate.weights]} x {FORMATS[self.candidate.activations]}"

    def to_json(self) -> dict:
        """The record of a projection; `kind` sets it apart from a measured one."""
        kind = "projected" if self.is_validated else "projected, unvalidated"
        return {
            "schema_version": SCHEMA_VERSION, "kind": kind, "gpu": self.gpu.name, "model": self.model.name,
            "engine": self.candidate.engine, "kernel": self.candidate.kernel, "weights": self.candidate.weights,
            "activations": self.candidate.activations, "precision": self.label, "notes": self.notes.strip(" ()") or None,
            "workload": {"prompt_tokens": self.ask.prompt, "output_tokens": self.ask.output, "batch": self.ask.batch},
            "memory": memory_json(self.fit), "metrics": {k: v.to_json() for k, v in self.metrics.items()},
            "reason": self.reason, "basis": list(self.basis),
        }  # fmt: skip


FORMATS = {
    "bf16": "BF16", "fp8": "FP8", "nvfp4": "NVFP4", "mxfp4": "MXFP4", "int4": "INT4", "ternary": "ternary",
}  # fmt: skip


def is_validated(gpu: GpuSpec, candidate: Candidate) -> bool:
    return gpu.is_validated and not candidate.stand_in


def memory_json(found: Fit) -> dict:
    return {
        "kind": "computed", "fits": found.fits, "weight_bytes": found.weight_bytes, "expert_bytes": found.expert_bytes,
        "other_weight_bytes": found.other_weight_bytes, "activation_bytes": found.activation_bytes,
        "kv_bytes_a_sequence": found.kv_bytes_a_sequence, "usable_bytes": found.usable_bytes,
        "max_batch": found.max_batch, "num_models": found.num_models,
    }  # fmt: skip


def model_by_name(name: str, option: str = "--model") -> ModelShape:
    """The shape of a known model, or of the checkpoint in a folder."""
    from pathlib import Path

    source = _source(name, option)
    return model_shape(Path(name).resolve().name if source.is_user_path else name, source.config)


def _source(name: str, option: str) -> ModelSource:
    from pathlib import Path

    from harness.scenario.schema import KNOWN_MODELS

    if name in KNOWN_MODELS:
        return resolve(ModelSpec(name=name, weights="auto"), option)
    if (Path(name) / "config.json").is_file():
        return resolve(ModelSpec(name="checkpoint", path=name), option)
    known = ", ".join(KNOWN_MODELS)
    raise UsageError(f"{option} {name!r}: not a known model and no folder with a config.json (allowed: {known}, or a path)")


def check_ask(ask: Ask, model: ModelShape) -> None:
    """UsageError for lengths that no run could have."""
    for option, value in (("--prompt", ask.prompt), ("--output", ask.output), ("--batch", ask.batch)):
        if not 1 <= value <= MAX_TOKENS:
            raise UsageError(f"{option}: must be from 1 to {MAX_TOKENS} (got {value})")
    if ask.output < 2:
        raise UsageError(f"--output: must be at least 2, so that a time per output token exists (got {ask.output})")
    total = ask.prompt + ask.output
    if total > model.max_positions:
        limit = f"{model.name}'s context of {model.max_positions} tokens"
        raise UsageError(f"--prompt, --output: {ask.prompt} + {ask.output} = {total} is more than {limit}; ask for less")


def shape_problem(model: ModelShape) -> str | None:
    """Why layers of this model are too unlike the measured ones to be projected, None where they are not."""
    ratio = model.expert_weights / MIXTRAL_EXPERT_WEIGHTS
    if 1 / MAX_SIZE_RATIO <= ratio <= MAX_SIZE_RATIO:
        return None
    sizes = f"{model.expert_weights / 1e6:.3g} M weights an expert, the measured layers {MIXTRAL_EXPERT_WEIGHTS / 1e6:.0f} M"
    return f"no projection for {model.name}: {sizes}; a layer that much smaller or larger is bound by other things"


def project(gpu: GpuSpec, model: ModelShape, candidate: Candidate, ask: Ask, *, routing: Routing | None = None) -> Projection:
    """One candidate. Memory is computed always, speed where it fits and a measured curve stands behind it."""
    found = fit(model, candidate.weights, gpu, ask.prompt + ask.output)
    common = (gpu, model, candidate, ask, found)
    if problem := shape_problem(model):
        return Projection(*common, {}, (), problem)
    step, basis = step_model(gpu, model, candidate, routing)
    if step is None:
        return Projection(*common, {}, basis, f"no measured layer of {candidate.kernel} to project from")
    if ask.batch > found.max_batch:
        limit = f"at most {found.max_batch} sequences of {ask.prompt + ask.output} tokens" if found.fits else "does not fit"
        return Projection(*common, {}, basis, f"{limit}: {found.arithmetic()}", step)
    return Projection(*common, _metrics(step, ask, is_validated(gpu, candidate)), basis, None, step)


def step_model(
    gpu: GpuSpec, model: ModelShape, candidate: Candidate, routing: Routing | None = None
) -> tuple[StepModel | None, tuple[str, ...]]:
    """The step model and what it stands on; None where no curve of this kernel was measured."""
    curve = curve_for(candidate, gpu)
    if curve is None:
        return None, ()
    layer, costs = layer_model(candidate, curve), engine_costs(candidate.engine)
    is_own = curve.gpu == gpu.name
    ceilings = Ceilings(curve.read_gb_s, curve.product_tflops) if is_own else layer.ceilings_of(gpu)
    used = routing or Routing(model.num_experts, model.top_k)
    basis = [curve.origin, shipped_sharpness().source, f"engine: {costs.source}", f"data sheet: {gpu.source}", used.source]
    if candidate.stand_in:
        basis.insert(0, f"{candidate.kernel}: {candidate.stand_in}")
    return StepModel(layer, gpu, model, used, costs, ceilings), tuple(basis)


def _metrics(step: StepModel, ask: Ask, validated: bool) -> dict[str, Estimate]:
    decode, prefill = (expected_error_pct(is_prefill) for is_prefill in (False, True))
    a_step, first = step.decode(ask.batch, ask.prompt + ask.output / 2), step.prefill(ask.prompt)
    wall = run_span(step, ask.batch, ask.prompt, ask.output)
    tokens = ask.batch * ask.output
    worse, flag = max(decode, prefill), {"is_validated": validated}
    return {
        "output_throughput": of_rate(tokens, wall, "tokens/s", error_pct=worse, **flag),
        "decode_throughput": of_rate(ask.batch, a_step, "tokens/s", error_pct=decode, **flag),
        "median_ttft_ms": of_time(first, "ms", error_pct=prefill, **flag),
        "median_tpot_ms": of_time(a_step, "ms", error_pct=decode, **flag),
    }


def project_all(
    gpu: GpuSpec, model: ModelShape, ask: Ask, *, only: Iterable[str] = (), routing: Routing | None = None
) -> list[Projection]:
    """Every candidate that runs on the GPU; `only` keeps weight formats by name (UsageError for an unknown one)."""
    wanted = tuple(only)
    for name in wanted:
        if name not in BITS:
            raise UsageError(f"--precision {name!r}: not a weight format (allowed: {', '.join(BITS)})")
    check_ask(ask, model)
    rows = [row for row in candidates_on(gpu) if not wanted or row.weights in wanted]
    return [project(gpu, model, row, ask, routing=routing) for row in rows]
