"""The native backend: a model whose arithmetic overflows has neither quality nor speed."""

from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from fp4moe.errors import CheckpointError
from harness.backends.native import NativeBackend
from harness.models import resolve
from harness.precisions import Precision
from harness.scenario.schema import ModelSpec
from scenario_files import scenario_data
from tiny_checkpoint import write_tiny

BF16 = asdict(Precision("bf16", "none", "bf16"))


def ignore(done: int, total: int, what: str) -> None:
    """A progress callback."""


def load(folder, backend: NativeBackend | None = None) -> dict:
    source = resolve(ModelSpec(name="mine", path=str(folder)))
    arguments = {"torch_device": "cpu", "seed": 0, "cpu_threads": 1, "allow_reference": True}
    return (backend or NativeBackend()).load(source=asdict(source), precision=BF16, progress=ignore, **arguments)


def measure(backend: NativeBackend, folder) -> dict:
    (folder / "samples").mkdir(parents=True)
    workload = scenario_data()["workloads"][0]
    cell = {"kind": "requests", "model": "mine", "workload": workload, "is_baseline": True, "stem": "x"}
    return backend.measure(cell=cell, folder=str(folder), seed=0, progress=ignore)


def test_loaded_model_is_checked_and_named_by_its_bytes(tmp_path):
    loaded = load(write_tiny(tmp_path / "mine"))
    assert loaded["check"]["passed"] and len(loaded["weights"]["sha256"]) == 64


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
