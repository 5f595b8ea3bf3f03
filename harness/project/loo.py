"""The error of the projection: leave one measured GPU out, refit everything without it, P and engine costs too, predict it.

In: the curves and whole-model times that ship. Out: LayerError rows, ModelError rows, and the error that projections carry.
The model that ships is another one: it has seen every GPU, and its P with them (sharpness.py).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.models import MIXTRAL_8X7B
from harness.project.curves import all_curves
from harness.project.engines import FREE, Observation, engine_costs, fit_costs, model_ms, observations, step_model_of
from harness.project.experts import Routing
from harness.project.gpus import gpu_spec
from harness.project.layer import Ceilings, LayerModel
from harness.project.layer_errors import DECODE_TOKENS, LayerError, crossed_errors, has_changed, measured_on_both
from harness.project.memory import model_shape
from harness.project.sharpness import sharpness_without, shipped_sharpness
from harness.project.step import StepModel


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


def layer_errors(source: str = "H100", target: str = "H200", *, sharpness: float | None = None) -> list[LayerError]:
    """Every kernel that both GPUs have; P is that of all GPUs but the target, or `sharpness` to show what another gives."""
    return crossed_errors(source, target, all_curves(), sharpness=_without(target) if sharpness is None else sharpness)


def decode_errors(source: str = "H100", target: str = "H200", *, sharpness: float | None = None) -> list[ModelError]:
    """A whole step on `target` with layers predicted from `source`, against the same step with the layers measured there.

    Everything but the MoE layers is modelled alike on both sides, so this says what the layers' error becomes in a step; it
    is not a measurement of a whole model, which `recorded_errors` holds. P as in `layer_errors`; the engine's costs are
    vLLM's, fitted without the target.
    """
    rows, shape = [], model_shape("mixtral-8x7b", MIXTRAL_8X7B)
    p = _without(target) if sharpness is None else sharpness
    costs, spec = fit_costs("vllm", observations(), sharpness=p, without=target) or FREE, gpu_spec(target)
    for here, there in measured_on_both(source, target, all_curves()):
        if here.is_untuned or there.is_untuned or has_changed(here, there):
            continue
        far, near = LayerModel(here, gpu_spec(source), sharpness=p), LayerModel(there, spec, sharpness=p)
        guess = StepModel(far, spec, shape, Routing(), costs, far.ceilings_of(spec))
        truth = StepModel(near, spec, shape, Routing(), costs, Ceilings(there.read_gb_s, there.product_tflops))
        name = f"{there.kernel} {there.weights}"
        for batch in (1, 4, 16, 64, 128):
            times = truth.decode(batch, 1024).ms, guess.decode(batch, 1024).ms
            rows.append(ModelError(target, name, "tpot", batch, 1024, *times, "layers measured, the rest modelled"))
        for prompt in (512, 1024, 4096):
            if prompt <= there.points[-1].tokens:
                times = truth.prefill(prompt).ms, guess.prefill(prompt).ms
                rows.append(ModelError(target, name, "ttft", 1, prompt, *times, "layers measured, the rest modelled"))
    return rows


def _without(target: str) -> float:
    return sharpness_without(target).value


def recorded_errors(*, sharpness: float | None = None) -> list[ModelError]:
    """Whole-model measurements on each GPU against a model that has neither that GPU's layers nor its whole-model times.

    P as in `layer_errors`.
    """
    rows, seen = [], observations()
    for item in seen:
        p = _without(item.gpu) if sharpness is None else sharpness
        costs = fit_costs(item.engine, seen, sharpness=p, without=item.gpu)
        step = step_model_of(item, costs or FREE, sharpness=p, without=item.gpu)
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
        step = step_model_of(item, engine_costs(item.engine), sharpness=shipped_sharpness().value)
        if step is not None:
            predicted = model_ms(item, step)
            rows.append(_of_record(item, predicted))
    return rows


@cache
def expected_error_pct(is_prefill: bool) -> float:
    """The error that a projection to a measured architecture carries: nine of ten layer errors are smaller."""
    wanted = [abs(row.error_pct) for row in layer_errors() if row.counts and (row.tokens > DECODE_TOKENS) == is_prefill]
    return float(np.quantile(wanted, 0.9))
