"""Backends in a scenario: short forms, names, what a server leaves open, which cells come of them."""

import pytest

from harness.device import cpu
from harness.errors import ScenarioError
from harness.models import resolve
from harness.plan import Facts, all_precisions, largest_need, make_plan
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from scenario_files import scenario_data, write_scenario

SERVER = {"name": "mine", "kind": "openai", "url": "http://127.0.0.1:1/v1"}


def _scenario(**changes) -> Scenario:
    return Scenario.model_validate(scenario_data() | {"precisions": ["bf16", "nvfp4"]} | changes)


def _plan(scenario: Scenario, backend_facts=None):
    sources = {"pocket-mixtral": resolve(scenario.models[0])}
    facts = {("pocket-mixtral", p.id): Facts({"expert_codes": 1}, ()) for p in all_precisions(scenario)}
    return make_plan(scenario, cpu(), sources, facts, backend_facts)


def test_short_forms_and_default_names():
    backends = _scenario(backends=["native", {"kind": "native", "mode": "served"}, "vllm"]).backends
    assert [(b.kind, b.name, b.is_served) for b in backends] == [
        ("native", "native", False), ("native", "native-served", True), ("vllm", "vllm", False),
    ]  # fmt: skip


def test_native_comes_first_whatever_the_order():
    cells = _plan(_scenario(backends=["vllm", "native"])).cells
    assert [cell.backend for cell in cells] == sorted(cell.backend for cell in cells)


def test_a_backend_kept_to_some_precisions():
    cells = _plan(_scenario(backends=["native", {"kind": "vllm", "precisions": ["bf16*"]}])).cells
    assert {cell.precision.id for cell in cells if cell.backend == "vllm"} == {"bf16-a16"}


def test_a_server_has_the_precision_that_is_stated():
    cells = _plan(_scenario(backends=[SERVER | {"precision": "nvfp4*"}])).cells
    assert {cell.precision.id for cell in cells} == {"nvfp4-search-a16"}


def test_what_another_backend_says_drops_its_cells_alone():
    problem = Facts({}, (), "vLLM: not here")
    keys = [("vllm", "pocket-mixtral", p) for p in ("bf16-a16", "nvfp4-search-a16")]
    plan = _plan(_scenario(backends=["native", "vllm"]), dict.fromkeys(keys, problem))
    assert {cell.backend for cell in plan.cells} == {"native"}
    assert {item.reason for item in plan.dropped} == {"vLLM: not here"}


def test_the_largest_need_covers_the_window():
    assert largest_need(_scenario(quality={"window_tokens": 1024}))[1] == 1025


@pytest.mark.parametrize(
    ("backends", "words"),
    [
        pytest.param(["sglang"], "kind", id="unknown-kind"),
        pytest.param(["native", "native"], "'native' is used twice", id="same-name-twice"),
        pytest.param([SERVER], "needs `precision`", id="server-with-two-precisions"),
        pytest.param([SERVER | {"precision": "bf16*", "for_model": "x"}], "for_model 'x' is none of", id="unknown-model"),
        pytest.param([SERVER | {"precision": "mxfp4*"}], "fits none of bf16-a16, nvfp4-search-a16", id="precision-of-none"),
        pytest.param([{"kind": "vllm", "precisions": ["fp8*"]}], "'fp8*' fits none of", id="pattern-of-none"),
        pytest.param([SERVER | {"url": "localhost:8000"}], "url", id="url-without-scheme"),
        pytest.param([{"kind": "vllm", "argz": {}}], "argz", id="unknown-key"),
        pytest.param([], "backends", id="none"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, backends, words):
    file = write_scenario(tmp_path, scenario_data() | {"precisions": ["bf16", "nvfp4"], "backends": backends})
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert words in str(caught.value) and f"{file}:" in str(caught.value)
