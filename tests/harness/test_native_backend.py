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
from tiny_checkpoint import write_tiny

BF16 = asdict(Precision("bf16", "none", "bf16"))


def load(folder) -> dict:
    source = resolve(ModelSpec(name="mine", path=str(folder)))
    arguments = {"torch_device": "cpu", "seed": 0, "cpu_threads": 1, "allow_reference": True}
    return NativeBackend().load(source=asdict(source), precision=BF16, progress=lambda done, total, what: None, **arguments)


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
