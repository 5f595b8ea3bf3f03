"""The error of the projection: calibrate on one GPU alone, predict another that was measured too.

In: the curves and whole-model times that ship. Out: LayerError rows, StepError rows, and the error that projections carry.
The target's own ceilings are not used: its data sheet times the shares that the calibrating GPU's ceilings have of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.models import MIXTRAL_8X7B
from harness.project.curves import Curve, all_curves, find_curves
from harness.project.engines import FREE, Observation, engine_costs, fit_costs, model_ms, observations, step_model_of
from harness.project.experts import Routing
from harness.project.gpus import gpu_spec
from harness.project.layer import SHARPNESS, Ceilings, LayerModel
from harness.project.memory import model_shape
from harness.project.step import StepModel

SHARPNESSES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, float("inf"))
DECODE_TOKENS = 128
"""Up to here a number of tokens counts as a decode step, beyond as a prefill."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """One layer predicted on `target` from `source` alone. `counts` is False where the two ran different things."""

    source: str
    target: str
    kernel: str
    weights: str
    tokens: int
    measured_us: float
    predicted_us: float
    counts: bool

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.weights}"

    @property
    def error_pct(self) -> float:
        return 100 * (self.predicted_us / self.measured_us - 1)


@dataclass(frozen=True, slots=True)
class ModelError:
    """A whole-model time on `target` predicted without anything measured there."""

    target: str
    engine: str
    what: str
    batch: int
    prompt: int
    measured_ms: float
    predicted_ms: float
    basis: str
    formats: str = ""

    @property
    def error_pct(self) -> float:
        return 100 * (self.predicted_ms / self.measured_ms - 1)


def layer_errors(source: str = "H100", target: str = "H200", *, sharpness: float = SHARPNESS) -> list[LayerError]:
    """Every kernel that both GPUs have."""
    rows = []
    for key in dict.fromkeys(curve.key for curve in all_curves()):
        pair = {curve.gpu: curve for curve in find_curves(key)}
        if source in pair and target in pair:
            rows += _errors_of(pair[source], pair[target], sharpness)
    return rows


def _errors_of(source: Curve, target: Curve, sharpness: float) -> list[LayerError]:
    model, spec = LayerModel(source, gpu_spec(source.gpu), sharpness=sharpness), gpu_spec(target.gpu)
    is_untuned = source.is_untuned or target.is_untuned
    is_same_code = not _has_changed(source, target)

    def counts(tokens: int) -> bool:
        return is_same_code and not (is_untuned and tokens > DECODE_TOKENS // 2)

    return [
        LayerError(
            source.gpu, target.gpu, source.kernel, source.weights, p.tokens, p.us,
            model.predict(spec, p.tokens, p.experts_hit).us, counts(p.tokens),
        )
        for p in target.points
    ]  # fmt: skip


def _has_changed(source: Curve, target: Curve) -> bool:
    """Whether one record is of today's sources of a kernel and the other of older ones: two programs, not one on two GPUs."""
    return source.is_stale != target.is_stale


def decode_errors(source: str = "H100", target: str = "H200") -> list[ModelError]:
    """A whole step on `target` with layers predicted from `source`, against the same step with the layers measured there.

    Everything but the MoE layers is modelled alike on both sides, so this says what the layers' error becomes in a step; it
    is not a measurement of a whole model, which `recorded_errors` holds.
    """
    rows, shape = [], model_shape("mixtral-8x7b", MIXTRAL_8X7B)
    costs = engine_costs("vllm")
    for key in dict.fromkeys(curve.key for curve in all_curves()):
        pair = {curve.gpu: curve for curve in find_curves(key)}
        if not {source, target} <= set(pair) or pair[source].is_untuned or pair[target].is_untuned:
            continue
        if _has_changed(pair[source], pair[target]):
            continue
        spec = gpu_spec(target)
        far, near = LayerModel(pair[source], gpu_spec(source)), LayerModel(pair[target], spec)
        guess = StepModel(far, spec, shape, Routing(), costs, far.ceilings_of(spec))
        truth = StepModel(near, spec, shape, Routing(), costs, Ceilings(near.curve.read_gb_s, near.curve.product_tflops))
        name = f"{key[0]} {key[1]}"
        largest = pair[target].points[-1].tokens
        for batch in (1, 4, 16, 64, 128):
            times = truth.decode(batch, 1024).ms, guess.decode(batch, 1024).ms
            rows.append(ModelError(target, name, "tpot", batch, 1024, *times, "layers measured, the rest modelled"))
        for prompt in (512, 1024, 4096):
            if prompt <= largest:
                times = truth.prefill(prompt).ms, guess.prefill(prompt).ms
                rows.append(ModelError(target, name, "ttft", 1, prompt, *times, "layers measured, the rest modelled"))
    return rows


def recorded_errors() -> list[ModelError]:
    """Whole-model measurements on each GPU against a model that has neither that GPU's layers nor its whole-model times."""
    rows, seen = [], observations()
    for item in seen:
        costs = fit_costs(item.engine, [other for other in seen if other.gpu != item.gpu])
        step = step_model_of(item, costs or FREE, without=item.gpu)
        if costs is not None and step is not None:
            predicted = model_ms(item, step)
            rows.append(_of_record(item, predicted))
    return rows


def _of_record(item: Observation, predicted_ms: float) -> ModelError:
    _, weights, activations = item.curve_key
    what = item.gpu, item.engine, item.what, item.batch, item.prompt
    return ModelError(*what, item.ms, predicted_ms, item.source, f"{weights} x {activations}")


def fit_errors() -> list[ModelError]:
    """Whole-model measurements against the model that was fitted to them: how well two costs an engine describe them."""
    rows = []
    for item in observations():
        step = step_model_of(item, engine_costs(item.engine))
        if step is not None:
            predicted = model_ms(item, step)
            rows.append(_of_record(item, predicted))
    return rows


def sharpness_table() -> list[tuple[float, float, float]]:
    """(P, mean absolute error, largest) of the layers that count, in percent."""
    rows = []
    for sharpness in SHARPNESSES:
        errors = [abs(row.error_pct) for row in layer_errors(sharpness=sharpness) if row.counts]
        rows.append((sharpness, float(np.mean(errors)), float(np.max(errors))))
    return rows


def without_own_kernel() -> list[tuple[str, float, float]]:
    """(kernel, P fitted to all other kernels, mean absolute error of this kernel at that P)."""
    by_p = {p: [row for row in layer_errors(sharpness=p) if row.counts] for p in SHARPNESSES}
    found = []
    for name in dict.fromkeys(row.name for row in by_p[SHARPNESS]):
        others = {p: _mean_abs([row for row in rows if row.name != name]) for p, rows in by_p.items()}
        best = min(others, key=others.get)
        found.append((name, best, _mean_abs([row for row in by_p[best] if row.name == name])))
    return found


def _mean_abs(rows: Sequence[LayerError]) -> float:
    return float(np.mean([abs(row.error_pct) for row in rows]))


@cache
def expected_error_pct(is_prefill: bool) -> float:
    """The error that a projection to a measured architecture carries: nine of ten layer errors are smaller."""
    wanted = [
        abs(row.error_pct) for row in layer_errors() if row.counts and (row.tokens > DECODE_TOKENS) == is_prefill
    ]
    return float(np.quantile(wanted, 0.9))
