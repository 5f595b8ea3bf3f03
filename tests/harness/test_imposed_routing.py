"""Routing that a workload imposes: the table, the cells where it cannot be, and a `routing` that is none."""

import numpy as np
import pytest

from fp4moe.runtime import MIXTRAL_8X7B
from harness import device
from harness.backends.native_engines import ReadyEngine
from harness.backends.native_routing import TABLE_TOKENS, impose, imposed_table
from harness.device import Device
from harness.errors import ScenarioError
from harness.models import MIXTRAL_8X7B as MIXTRAL_JSON
from harness.models import ModelSource
from harness.plan import Facts, all_precisions, make_plan
from harness.run.prepare import prepare
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario, WorkloadSpec
from scenario_files import scenario_data, write_scenario

H100 = Device("H100", "NVIDIA H100 80GB HBM3", "9.0", 85 * 10**9, 84 * 10**9, is_attached=True)
CPU = Device("cpu", "a processor", "cpu", 16 * 10**9, 8 * 10**9, is_attached=True)
RANDOM = ModelSource("mixtral-8x7b", None, "random", MIXTRAL_JSON, is_user_path=False)
TRAINED = ModelSource("mixtral-8x7b", "/p", "trained", MIXTRAL_JSON, is_user_path=True)


@pytest.mark.parametrize("routing", ["uniform", "zipf:1.5", "hot70"])
def test_a_table_has_a_row_a_token_and_layer_of_distinct_experts(routing):
    table = imposed_table(MIXTRAL_8X7B, routing, 0)
    assert table.shape == (TABLE_TOKENS, 32, 2) and table.dtype == np.int32
    assert table.min() == 0 and table.max() == 7 and (table[..., 0] != table[..., 1]).all()


def test_hot70_is_70_percent_of_every_layers_slots_to_whole_slots():
    table = imposed_table(MIXTRAL_8X7B, "hot70", 0)
    counts = np.stack([np.bincount(table[:, layer].ravel(), minlength=8) for layer in range(32)])
    assert (np.abs(counts[:, :2].sum(1) - 0.7 * 2 * TABLE_TOKENS) < 1).all()
    assert (np.ptp(counts[:, 2:], axis=1) <= 1).all()


def test_the_seed_and_the_layer_choose_the_draw():
    table = imposed_table(MIXTRAL_8X7B, "uniform", 0)
    assert np.array_equal(table, imposed_table(MIXTRAL_8X7B, "uniform", 0))
    assert not np.array_equal(table, imposed_table(MIXTRAL_8X7B, "uniform", 1))
    assert not np.array_equal(table[:, 0], table[:, 1])


class FakeEngine:
    """Keeps what is imposed on it."""

    def __init__(self) -> None:
        self.tables = []

    def impose_routing(self, table) -> None:
        self.tables.append(None if table is None else tuple(table.shape))


def test_a_table_is_made_once_for_the_repeats_of_a_cell_and_taken_off_after_it():
    ready, plain = ReadyEngine(FakeEngine()), WorkloadSpec.model_validate(scenario_data()["workloads"][0])
    hot = plain.model_copy(update={"routing": "hot70"})
    for spec in (plain, hot, hot, plain, plain):
        impose(ready, MIXTRAL_8X7B, spec, seed=0)
    assert ready.engine.tables == [(TABLE_TOKENS, 32, 2), None]


def test_another_seed_imposes_anew_and_another_engine_has_its_own():
    hot = WorkloadSpec.model_validate(scenario_data()["workloads"][0] | {"routing": "hot70"})
    first, second = ReadyEngine(FakeEngine()), ReadyEngine(FakeEngine())
    for ready, seed in ((first, 0), (second, 0), (first, 1), (second, 0)):
        impose(ready, MIXTRAL_8X7B, hot, seed=seed)
    assert (len(first.engine.tables), len(second.engine.tables)) == (2, 1)


def dropped_reasons(source: ModelSource, on: Device, memory_bytes=None, routing: str | None = "hot70", **facts) -> set[str]:
    data = scenario_data() | {"models": ["mixtral-8x7b"], "quality": None, "precisions": ["nvfp4"]}
    data["workloads"][0]["routing"] = routing
    scenario = Scenario.model_validate(data)
    known = Facts(memory_bytes or {"expert_codes": 10**9}, (), **facts)
    keys = {("mixtral-8x7b", precision.id): known for precision in all_precisions(scenario)}
    return {item.reason for item in make_plan(scenario, on, {"mixtral-8x7b": source}, keys).dropped}


def test_random_weights_on_a_gpu_take_it():
    assert dropped_reasons(RANDOM, H100) == set()


def test_trained_weights_keep_their_own():
    assert dropped_reasons(TRAINED, H100) == {
        "routing is imposed on random weights only; trained ones keep their own. Set `weights: random`"
    }


def test_another_backend_has_none():
    assert "routing is imposed by our own engine only; native has none" in dropped_reasons(RANDOM, H100, is_elsewhere=True)


def test_without_a_gpu_it_cannot_be(monkeypatch):
    monkeypatch.setattr("harness.plan.GPU_ONLY_PARAMETERS", 10**12)
    assert dropped_reasons(RANDOM, CPU) == {"imposed routing needs the GPU engine; this machine has no GPU"}


def test_what_does_not_fit_says_how_much_of_the_cache_would():
    # Room: .95 x 84 = 79.8 GB. 70 + 20 is 10.2 too much: 9.8 of the cache's 20 are left, 49 %.
    (reason,) = dropped_reasons(RANDOM, H100, {"expert_codes": 70 * 10**9, "kv_cache": 20 * 10**9}, routing=None)
    assert "needs 90.0 GB (expert codes 70.0, kv cache 20.0)" in reason and "has 84.0 GB free" in reason
    assert "fits with 49 % of the KV cache" in reason


def test_what_does_not_fit_without_a_cache_says_what_to_change():
    (reason,) = dropped_reasons(RANDOM, H100, {"expert_codes": 90 * 10**9, "kv_cache": 5 * 10**9}, routing=None)
    assert "does not fit without any KV cache; choose a precision with fewer bits or a larger GPU" in reason


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        pytest.param("hot90", "must be one of uniform, zipf, zipf:S, hot70, recorded:FILE (got 'hot90')", id="no-routing"),
        pytest.param("recorded:/nowhere.json", "/nowhere.json", id="no-file"),
        pytest.param("zipf:eleven", "must be a number from 0 to 10 (got 'eleven')", id="no-exponent"),
    ],
)
def test_a_bad_routing_is_refused_with_its_line_before_anything_runs(tmp_path, routing, message):
    data = scenario_data() | {"models": ["mixtral-8x7b"], "quality": None}
    data["workloads"][0]["routing"] = routing
    path = write_scenario(tmp_path, data)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "routing:" in text)
    with pytest.raises(ScenarioError) as failed:
        prepare(load_scenario(path), device.cpu())
    (problem,) = failed.value.problems
    assert problem.startswith(f"{path}:{line}: workloads[0].routing: ") and message in problem


def test_a_histogram_of_another_number_of_experts_is_refused_before_anything_runs(tmp_path):
    file = tmp_path / "counts.json"
    file.write_text("[10, 10, 10, 10]")
    data = scenario_data() | {"models": ["mixtral-8x7b"], "quality": None}
    data["workloads"][0]["routing"] = f"recorded:{file}"
    with pytest.raises(ScenarioError, match=r"workloads\[0\].routing: .*a count for each of 8 experts \(got 4\)"):
        prepare(load_scenario(write_scenario(tmp_path, data)), device.cpu())
