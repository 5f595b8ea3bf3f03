"""What an engine adds to the kernels' time, fitted to measured whole-model times.

In: whole-model times of data/calibration.json (records) and data/published.yaml. Out: EngineCosts, and how well they fit.
Two numbers an engine: microseconds a layer, and microseconds a sequence and step; least squares of relative errors, neither
below zero. An engine without any measurement takes vLLM's, and its `source` says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harness.models import MIXTRAL_8X7B
from harness.project.curves import all_curves, data_file, find_curves
from harness.project.experts import Routing
from harness.project.gpus import gpu_spec
from harness.project.layer import Ceilings, LayerModel
from harness.project.memory import model_shape
from harness.project.sharpness import shipped_sharpness
from harness.project.step import MAX_STEP_TOKENS, EngineCosts, Span, StepModel

FREE = EngineCosts("none", 0.0, 0.0, "")
FALLBACK = "vllm"
MIN_OUTPUT = 16
"""Tokens out below which a wall time says nothing of decoding."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured time of a whole mixtral-8x7b: `wall`, `tpot` or `ttft`, in milliseconds."""

    engine: str
    gpu: str
    curve_key: tuple[str, str, str]
    what: str
    batch: int
    prompt: int
    output: int
    ms: float
    source: str


def observations() -> list[Observation]:
    """Every whole-model time that ships: records first, then published.yaml."""
    return [*_recorded(data_file("calibration.json")["models"]), *_published(data_file("published.yaml")["end_to_end"])]


def _published(blocks: Iterable[dict]) -> Iterator[Observation]:
    for block in blocks:
        key = (block["kernel"], block["weights"], block["activations"])
        head = (block["engine"], block["gpu"], key)
        for row in block["output_throughput"]:
            wall = row["batch"] * row["output"] / row["tokens_per_s"] * 1e3
            yield Observation(*head, "wall", row["batch"], row["prompt"], row["output"], wall, block["source"])
        for row in block["ttft"]:
            yield Observation(*head, "ttft", 1, row["prompt"], 1, row["ms"], block["source"])


def _recorded(rows: Iterable[dict]) -> Iterator[Observation]:
    for row in rows:
        kernel = "cuda-fragments" if row["kernel"].startswith("cuda-fragments") else row["kernel"]
        head = (row["engine"], row["gpu"], (kernel, row["weights"], row["activations"]))
        sizes = (row["batch"], row["prompt"], row["output"])
        if row["arrival"] == "all_at_once":
            if row["output_throughput"] and row["output"] >= MIN_OUTPUT:
                wall = row["batch"] * row["output"] / row["output_throughput"] * 1e3
                yield Observation(*head, "wall", *sizes, wall, row["source"])
        elif row["median_tpot_ms"] is not None:
            yield Observation(*head, "tpot", *sizes, row["median_tpot_ms"], row["source"])
        if row["median_ttft_ms"] is not None and row["batch"] == 1:
            yield Observation(*head, "ttft", *sizes, row["median_ttft_ms"], row["source"])


def model_ms(seen: Observation, step: StepModel) -> float:
    """What the model says for an observation."""
    if seen.what == "ttft":
        return step.prefill(seen.prompt).ms
    decode = step.decode(seen.batch, seen.prompt + seen.output / 2).ms
    return decode if seen.what == "tpot" else (run_span(step, seen.batch, seen.prompt, seen.output)).ms


def run_span(step: StepModel, batch: int, prompt: int, output: int) -> Span:
    """`batch` requests sent at once: their prefill, then output - 1 decode steps."""
    return step.prefill(prompt, batch) + step.decode(batch, prompt + output / 2).times(output - 1)


def step_model_of(seen: Observation, costs: EngineCosts, *, sharpness: float, without: str | None = None) -> StepModel | None:
    """A step model of mixtral-8x7b on the observation's GPU; None without a curve. `without` leaves a GPU's curves out."""
    curves = [curve for curve in find_curves(seen.curve_key, all_curves()) if curve.gpu != without]
    if not curves:
        return None
    target = gpu_spec(seen.gpu)
    curve = next((curve for curve in curves if curve.gpu == seen.gpu), curves[0])
    layer = LayerModel(curve, gpu_spec(curve.gpu), sharpness=sharpness)
    ceilings = layer.ceilings_of(target) if curve.gpu != seen.gpu else Ceilings(curve.read_gb_s, curve.product_tflops)
    return StepModel(layer, target, model_shape("mixtral-8x7b", MIXTRAL_8X7B), Routing(), costs, ceilings)


def fit_costs(engine: str, seen: Iterable[Observation], *, sharpness: float, without: str | None = None) -> EngineCosts | None:
    """The two costs of an engine from its observations; None where there is none to fit to.

    `without` leaves out a GPU: its observations and its curves.
    """
    from scipy.optimize import nnls

    rows, rest, sources = [], [], {}
    for item in (item for item in seen if item.engine == engine and item.gpu != without):
        step = step_model_of(item, replace(FREE, engine=engine), sharpness=sharpness, without=without)
        if step is None:
            continue
        num_steps, sequence_steps = _num_steps(item)
        clock = step.layer.spec.boost_ghz / step.gpu.boost_ghz
        rows.append([step.shape.num_layers * num_steps * clock / 1e3 / item.ms, sequence_steps / 1e3 / item.ms])
        rest.append((item.ms - model_ms(item, step)) / item.ms)
        sources[item.source] = None
    if not rows:
        return None
    (layer_us, sequence_us), _ = nnls(np.array(rows), np.array(rest))
    return EngineCosts(engine, float(layer_us), float(sequence_us), "; ".join(sources))


def _num_steps(item: Observation) -> tuple[float, float]:
    """Steps that the observation takes, and sequences summed over them."""
    prefills = max(1, -(-item.batch * item.prompt // MAX_STEP_TOKENS))
    return {
        "tpot": (1.0, float(item.batch)),
        "ttft": (float(max(1, -(-item.prompt // MAX_STEP_TOKENS))), 1.0),
        "wall": (prefills + item.output - 1.0, float(item.batch * item.output)),
    }[item.what]


@cache
def engine_costs(engine: str) -> EngineCosts:
    """Fitted to the engine's own measurements, else vLLM's with a source that says so."""
    own = fit_costs(engine, observations(), sharpness=shipped_sharpness().value)
    if own is not None:
        return own
    other = engine_costs(FALLBACK)
    source = f"no whole-model measurement of the {engine} engine: {FALLBACK}'s costs are assumed ({other.source})"
    return EngineCosts(engine, other.layer_us, other.sequence_us, source)
