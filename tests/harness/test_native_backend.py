"""The native backend: what it says before loading, a kernel by name, and a model whose arithmetic overflows."""

from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from fp4moe import select
from fp4moe.errors import CheckpointError, SelectionError
from fp4moe.select import environment
from harness.backends.native import NativeBackend
from harness.implementations import NAMES
from harness.models import resolve
from harness.precisions import Precision
from harness.scenario.schema import ModelSpec
from scenario_files import scenario_data
from tiny_checkpoint import write_tiny

BF16 = asdict(Precision("bf16", "none", "bf16"))
NVFP4 = asdict(Precision("nvfp4", "search", "bf16"))


def ignore(done: int, total: int, what: str) -> None:
    """A progress callback."""


def load(folder, backend: NativeBackend | None = None, **changes) -> dict:
    source = resolve(ModelSpec(name="mine", path=str(folder)))
    arguments = {"torch_device": "cpu", "seed": 0, "cpu_threads": 1, "allow_reference": True} | changes
    return (backend or NativeBackend()).load(source=asdict(source), precision=BF16, progress=ignore, **arguments)


def measure(backend: NativeBackend, folder) -> dict:
    (folder / "samples").mkdir(parents=True)
    workload = scenario_data()["workloads"][0]
    cell = {"kind": "requests", "model": "mine", "workload": workload, "is_baseline": True, "stem": "x"}
    return backend.measure(cell=cell, folder=str(folder), seed=0, progress=ignore)


def test_loaded_model_is_checked_and_named_by_its_bytes(tmp_path):
    loaded = load(write_tiny(tmp_path / "mine"))
    assert loaded["check"]["passed"] and len(loaded["weights"]["sha256"]) == 64


def facts(folder, precisions=(BF16, NVFP4), **changes) -> list[dict]:
    arguments = {
        "capability": "cpu", "gpu": None, "is_attached": True, "slots": 1, "context": 64, "window_tokens": None,
        "allow_reference": True, "implementation": None,
    }  # fmt: skip
    source = asdict(resolve(ModelSpec(name="mine", path=str(folder))))
    return NativeBackend().facts(source=source, precisions=list(precisions), progress=ignore, **arguments | changes)


def chosen_in(row: dict) -> list[tuple]:
    (experts,) = [choice for choice in row["choices"] if choice["op"] == "experts"]
    return [(crossover["max_tokens"], crossover["name"]) for crossover in experts["crossovers"]]


H100 = {"capability": "9.0", "gpu": "H100", "is_attached": False}


def test_facts_are_of_the_checkpoint_s_own_shape(tmp_path):
    bf16, nvfp4 = facts(write_tiny(tmp_path / "mine"), **H100)  # hidden 64: no multiple of 128
    assert chosen_in(bf16) == [(None, "triton-grouped")] == chosen_in(nvfp4)
    refused = dict((item["name"], item["reason"]) for item in nvfp4["choices"][1]["refused"])
    assert refused["cuda-fragments-decode"] == "needs hidden a multiple of 128 (got 64)"
    assert nvfp4["peer"]["chosen"] == "marlin" and nvfp4["problem"] is None


def test_facts_of_mixtral_on_an_h100_have_crossovers_and_one_layout():
    source = asdict(resolve(ModelSpec(name="mixtral-8x7b", weights="random")))
    arguments = {"slots": 1, "context": 64, "window_tokens": None, "allow_reference": True, "implementation": None}
    (row,) = NativeBackend().facts(source=source, precisions=[NVFP4], progress=ignore, **H100, **arguments)
    (experts,) = [choice for choice in row["choices"] if choice["op"] == "experts"]
    assert experts["layout"] == "fragments" and experts["chosen"] == experts["crossovers"][-1]["name"]
    assert {c["name"] for c in experts["crossovers"]} <= {"cuda-fragments-decode", "cuda-fragments-grouped"}


def test_tools_are_judged_for_this_machine_s_own_devices_only(tmp_path, monkeypatch):
    folder = write_tiny(tmp_path / "mine")
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert chosen_in(facts(folder, **H100)[1]) == [(None, "triton-grouped")]
    attached = facts(folder, **H100 | {"is_attached": True})[1]
    assert chosen_in(attached) == [(None, "reference")]
    reasons = dict((item["name"], item["reason"]) for item in attached["choices"][1]["refused"])
    assert reasons["triton-grouped"] == environment.REASONS["triton"]


def test_a_kernel_by_name_that_does_not_run_is_a_problem_but_not_for_the_baseline(tmp_path):
    bf16, nvfp4 = facts(write_tiny(tmp_path / "mine"), implementation="cuda-fragments-grouped")
    assert bf16["problem"] is None and chosen_in(bf16) == [(None, "reference")]
    assert nvfp4["problem"].startswith("kernels.implementation: cuda-fragments-grouped does not run experts here: needs sm_90")
    assert nvfp4["choices"] == []


def test_a_kernel_by_name_is_what_is_loaded(tmp_path):
    backend = NativeBackend()
    loaded = load(write_tiny(tmp_path / "mine"), backend, implementation="reference")
    assert [row["source"] for row in loaded["implementation"]] == ["asked for by name"] * 2
    assert loaded["check"]["tokens"] == [17]
    with pytest.raises(SelectionError, match="triton-grouped does not run experts here: needs sm_80"):
        load(tmp_path / "mine", implementation="triton-grouped")


def test_names_of_scenarios_are_those_of_the_table():
    assert set(NAMES) == set(select.NAMES)


def test_finite_weights_that_overflow_are_refused(tmp_path):
    folder = write_tiny(tmp_path / "mine")
    tensors = load_file(folder / "model.safetensors")
    huge = {name: torch.full_like(t, 3e38) for name, t in tensors.items() if name.endswith((".w1.weight", ".w3.weight"))}
    save_file(tensors | huge, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="must give finite logits"):
        load(folder)


def test_wrong_output_has_no_speed(tmp_path):
    backend = NativeBackend()
    load(write_tiny(tmp_path / "mine"), backend)
    right = measure(backend, tmp_path / "right")
    assert right["verdict"]["state"] != "INVALID" and right["metrics"]["output_throughput"]["value"] > 0
    backend.check |= {"passed": False, "relative_error": 0.5}
    wrong = measure(backend, tmp_path / "wrong")
    assert wrong["verdict"]["state"] == "INVALID" and wrong["verdict"]["reasons"][0]["code"] == "wrong_output"
    assert wrong["metrics"]["output_throughput"]["value"] is None and wrong["metrics"]["mean_ttft_ms"]["value"] is None
    assert wrong["metrics"]["weight_bytes"]["value"] == right["metrics"]["weight_bytes"]["value"]


def test_one_engine_at_a_time_and_predictions_of_each_cell_s_own_size(tmp_path):
    """An engine that was kept beside another would stand in its memory figures."""
    backend = NativeBackend()
    load(write_tiny(tmp_path / "mine"), backend)
    small = backend.engines.get(1, 16)
    assert backend.engines.get(1, 16) is small
    large = backend.engines.get(2, 32)
    assert large is not small and backend.engines.get(1, 16) is not small, "the small one was given up for the large one"
    one, other = backend.predicted_bytes(1, 16), backend.predicted_bytes(2, 32)
    assert (one["kv_cache"], other["kv_cache"]) == (small.engine.kv_cache_bytes, large.engine.kv_cache_bytes)
    assert one["kv_cache"] < other["kv_cache"] and other["attention"] == one["attention"]
    result = measure(backend, tmp_path / "cell")
    assert result["predicted_memory_bytes"]["kv_cache"] == result["metrics"]["kv_cache_bytes"]["value"]
