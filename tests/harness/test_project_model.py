"""Memory, routing, engine costs, load: arithmetic checked by hand, and against the formats of the runtime."""

import math
from dataclasses import replace

import pytest

from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.select import IMPLEMENTATIONS, Capability
from fp4moe.select.refusals import Question, refusal
from harness.device import gpu_table
from harness.errors import UsageError
from harness.models import MIXTRAL_8X7B
from harness.project import engines
from harness.project.curves import find_curves
from harness.project.engines import EngineCosts, Observation, engine_costs, fit_costs, model_ms, step_model_of
from harness.project.experts import Routing, parse_routing, recorded_routing
from harness.project.gpus import gpu_spec
from harness.project.kernels import CANDIDATES, candidates_on
from harness.project.load import highest_rate, steady_state
from harness.project.loo import recorded_errors
from harness.project.memory import BITS, expert_bytes, fit, model_shape, other_weight_bytes
from harness.project.projection import Ask, project_all
from harness.project.sharpness import shipped_sharpness

MIXTRAL = model_shape("mixtral-8x7b", MIXTRAL_8X7B)
P = shipped_sharpness().value
GPUS = ("A100", "H100", "H200", "RTX 5090", "B200")


def test_sizes_are_the_published_ones():
    assert MIXTRAL.num_parameters / 1e9 == pytest.approx(46.70, abs=0.01)
    assert expert_bytes(MIXTRAL, "nvfp4") / 1e9 == pytest.approx(25.37, abs=0.01)
    assert expert_bytes(MIXTRAL, "bf16") / 1e9 == pytest.approx(90.19, abs=0.01)
    assert MIXTRAL.kv_bytes_a_token == 2 * 32 * 8 * 128 * 2
    whole = expert_bytes(MIXTRAL, "bf16") + other_weight_bytes(MIXTRAL)
    assert whole == 2 * MIXTRAL.num_parameters


def test_bits_are_those_of_the_runtime():
    """Row formats (FP8) keep their scale outside of `bits_per_weight`, as BITS does."""
    for name, form in WEIGHT_FORMATS.items():
        assert BITS[name] == form.bits_per_weight, name


@pytest.mark.parametrize(
    ("gpu", "weights", "fits"),
    [
        pytest.param("A100", "bf16", False, id="weights-alone-are-too-many"),
        pytest.param("H200", "bf16", True, id="largest-memory"),
        pytest.param("RTX 5090", "nvfp4", True, id="28.6-of-32-GB"),
        pytest.param("RTX 5090", "fp8", False, id="8-bits-do-not-fit-32-GB"),
        pytest.param("RTX 4090", "mxfp4", False, id="4-bits-do-not-fit-24-GB"),
    ],
)
def test_what_fits(gpu, weights, fits):
    found = fit(MIXTRAL, weights, gpu_spec(gpu), 1280)
    assert found.fits is fits
    assert (found.max_batch > 0) is fits and (found.num_models > 0) is fits


def test_the_largest_batch_leaves_no_room_for_one_more():
    found = fit(MIXTRAL, "nvfp4", gpu_spec("H100"), 1280)
    used = found.weight_bytes + found.activation_bytes + found.max_batch * found.kv_bytes_a_sequence
    assert used <= found.usable_bytes < used + found.kv_bytes_a_sequence


def test_uniform_routing_hits_what_the_formula_says():
    for tokens in (1, 2, 8, 32):
        assert Routing().experts_hit(tokens) == pytest.approx(8 * (1 - 0.75**tokens))


def test_recorded_routing_hits_no_more_than_uniform():
    skewed = recorded_routing([[50, 20, 10, 10, 5, 3, 1, 1]], 2, "made up")
    assert skewed.experts_hit(1) == pytest.approx(2.0)
    assert skewed.experts_hit(8) < Routing().experts_hit(8)
    even = recorded_routing([[7] * 8], 2, "made up")
    assert even.experts_hit(5) == pytest.approx(Routing().experts_hit(5))


def test_pocket_routing_is_the_record():
    pocket = parse_routing("pocket", num_experts=8, top_k=2)
    assert len(pocket.layers) == 5 and sum(pocket.layers[0]) == 2 * 262144
    assert 6.5 < pocket.experts_hit(8) < Routing().experts_hit(8)


@pytest.mark.parametrize("text", ["", "zipf", "recorded:", "recorded:/nowhere.json"])
def test_an_unknown_routing_is_refused(text):
    with pytest.raises(UsageError, match="routing"):
        parse_routing(text, num_experts=8, top_k=2)


def test_routing_of_another_number_of_experts_is_refused():
    with pytest.raises(UsageError, match="a count for each of 4 experts"):
        parse_routing("pocket", num_experts=4, top_k=2)


@pytest.mark.parametrize("name", gpu_table())
def test_native_candidates_are_those_of_the_selection_table(name):
    """A candidate runs where a row of the same name and formats runs, so a projection is never of a kernel that is refused."""
    spec = gpu_spec(name)
    for candidate in (row for row in CANDIDATES if row.engine == "native"):
        rows = [row for row in IMPLEMENTATIONS if row.op == "experts" and row.name.startswith(candidate.kernel)]
        assert rows, f"{candidate.kernel} is not in fp4moe.select.table"
        question = Question(candidate.weights, candidate.activations, Capability.parse(spec.family))
        able = any(refusal(row, question) is None for row in rows)
        assert candidate.runs_on(spec) == able, (candidate.kernel, candidate.weights, candidate.activations, name)


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_of_the_comparison_is_projected(name):
    rows = project_all(gpu_spec(name), MIXTRAL, Ask(1024, 256, 4))
    assert any(row.metrics for row in rows)
    for row in rows:
        record = row.to_json()
        assert record["kind"].startswith("projected")
        assert (record["kind"] == "projected") == (gpu_spec(name).is_validated and not row.candidate.stand_in)
        for figure in record["metrics"].values():
            assert figure["kind"] == record["kind"] and 0 < figure["low"] <= figure["high"]
            assert (figure["value"] is None) == (figure["kind"] != "projected")


def synthetic(costs: EngineCosts) -> list[Observation]:
    """Whole-model times that the model itself would give with these costs."""
    found = []
    asked = (("tpot", 1, 128, 64), ("tpot", 32, 128, 64), ("ttft", 1, 1024, 2), ("wall", 8, 128, 128))
    for what, batch, prompt, output in asked:
        seen = Observation("native", "H200", ("cuda-fragments", "nvfp4", "bf16"), what, batch, prompt, output, 1.0, "made up")
        found.append(replace(seen, ms=model_ms(seen, step_model_of(seen, costs, sharpness=P))))
    return found


def test_costs_are_found_again():
    costs = EngineCosts("native", 55.0, 12.0, "")
    found = fit_costs("native", synthetic(costs), sharpness=P)
    assert found.layer_us == pytest.approx(55.0, rel=0.05)
    assert found.sequence_us == pytest.approx(12.0, rel=0.25)  # `wall` counts whole sequences where the model has prefill means
    assert fit_costs("vllm", synthetic(costs), sharpness=P) is None


def test_an_engine_without_a_measurement_says_whose_costs_it_takes(monkeypatch):
    only_vllm = [seen for seen in engines.observations() if seen.engine == "vllm"]
    monkeypatch.setattr(engines, "observations", lambda: only_vllm)
    engines.engine_costs.cache_clear()
    try:
        assert "vllm's costs are assumed" in engine_costs("native").source
    finally:
        engines.engine_costs.cache_clear()


def test_whole_models_of_two_gpus_are_predicted_without_the_target(monkeypatch):
    """With a record on either GPU each is predicted from the other: what happens once such records are there."""
    from harness.project import loo

    key = ("vllm-marlin", "nvfp4", "bf16")
    assert {curve.gpu for curve in find_curves(key)} >= {"H100", "H200"}
    times = {"H100": 11.6, "H200": 10.9}  # within 10 % of what the model gives for either
    seen = [Observation("vllm", gpu, key, "tpot", 8, 128, 64, ms, "made up") for gpu, ms in times.items()]
    monkeypatch.setattr(loo, "observations", lambda: seen)
    rows = recorded_errors(sharpness=P)
    assert {row.target for row in rows} == {"H100", "H200"}
    assert all(abs(row.error_pct) < 10 for row in rows)


def step(gpu="H200"):
    rows = project_all(gpu_spec(gpu), MIXTRAL, Ask(1024, 256, 1))
    return next(row for row in rows if row.candidate.kernel == "cuda-fragments")


def test_littles_law_holds_in_the_steady_state():
    load = steady_state(step().step, 4.0, 1024, 256, max_batch=699)
    assert load.batch == pytest.approx(4.0 * 255 * load.tpot_ms / 1e3, rel=0.01)
    assert load.output_tokens_per_s == pytest.approx(4.0 * 255, rel=0.01)


def test_saturation_is_said_and_not_extrapolated():
    load = steady_state(step().step, 1000.0, 1024, 256, max_batch=699)
    assert load.reason.startswith("prefills alone need") and load.tpot_ms is None and not load.meets({})
    assert "above the 2 that fit" in steady_state(step().step, 4.0, 1024, 256, max_batch=2).reason


def test_the_highest_rate_is_where_the_limit_breaks():
    limits, row = {"tpot": 20.0}, step()
    rate = highest_rate(row.step, 1024, 256, limits, max_batch=699, end="middle")
    below, above = (steady_state(row.step, rate * f, 1024, 256, max_batch=699) for f in (0.99, 1.01))
    assert below.meets(limits) and not above.meets(limits)
    assert highest_rate(row.step, 1024, 256, {"ttft": 1.0}, max_batch=699, end="middle") == 0.0


def test_no_gpu_of_the_table_lacks_what_a_projection_needs():
    for name in gpu_table():
        spec = gpu_spec(name)
        assert spec.num_sms > 0 and spec.boost_ghz > 0 and spec.source and math.isfinite(spec.read_gb_s)
        assert candidates_on(spec)
