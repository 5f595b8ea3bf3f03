"""The vLLM backend around an engine that only behaves like vLLM: process, protocol, figures, and every way of failing.

The real vLLM is in test_vllm_cpu.py. The engine here gives log-probability -1 everywhere, so perplexity is exactly e.
"""

import math
import os
import sys
from dataclasses import asdict
from functools import cache

import psutil
import pytest

from fake_vllm import write_fake_vllm
from fp4moe import pocket
from harness.backends.vllm import environment
from harness.backends.vllm.backend import VllmBackend
from harness.collect.outputs import read_outputs
from harness.errors import WorkerError
from harness.models import resolve
from harness.precisions import Precision
from harness.scenario.schema import ModelSpec, QualitySpec, WorkloadSpec
from harness.workload.heldout import encode_text

BF16 = Precision("bf16", "none", "bf16")
REQUESTS = WorkloadSpec.model_validate(
    {"name": "w", "prompt_tokens": 16, "output_tokens": 4, "num_requests": 6, "arrival": {"kind": "closed", "concurrency": 2}}
)
QUALITY = QualitySpec(window_tokens=64, max_tokens=256, kl_tokens=64)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Load the backend with the fake failing in one way, or not at all."""
    monkeypatch.setenv(environment.PYTHON_VARIABLE, sys.executable)
    monkeypatch.setenv(environment.PATH_VARIABLE, str(write_fake_vllm(tmp_path / "site")))
    environment.probe.cache_clear()
    backend = VllmBackend()
    backend._text = _text()

    def load(mode: str = "", *, first_kind: str = "requests") -> tuple[VllmBackend, dict]:
        spec = {"kind": "vllm", "name": "vllm", "env": {"FAKE_VLLM": mode}}
        source = asdict(resolve(ModelSpec(name="pocket-mixtral")))
        sizes = {"slots": 2, "context": 65, "seed": 0, "cpu_threads": 1, "load_timeout_s": 60, "cell_timeout_s": 60}
        return backend, backend.load(
            backend=spec,
            source=source,
            precision=asdict(BF16),
            first_kind=first_kind,
            progress=_silent,
            sizes=sizes,
            torch_device="cpu",
        )

    yield load
    backend.close()


@cache
def _text():
    """The beginning of the held-out text: encoding all of it takes seconds."""
    folder = pocket.checkpoint_dir()
    return encode_text(folder, pocket.heldout_text()[:20_000])


def _silent(*told) -> None:
    pass


def _measure(backend: VllmBackend, kind: str, folder) -> dict:
    spec = QUALITY if kind == "heldout" else REQUESTS
    cell = {"kind": kind, "model": "pocket-mixtral", "workload": spec.model_dump(mode="json"), "stem": kind}
    return backend.measure(cell=cell, folder=str(folder), seed=0, progress=_silent)


def test_quality_then_speed(start, tmp_path):
    backend, loaded = start(first_kind="heldout")
    quality = _measure(backend, "heldout", tmp_path)
    assert quality["metrics"]["perplexity"]["value"] == pytest.approx(math.e)
    assert quality["metrics"]["top1_agreement_pct"]["reason"]  # no BF16 run to hold against
    assert quality["experts"]["layers"][0]["histogram"] == (256, 256, 0, 0, 0, 0, 0, 0)
    speed = _measure(backend, "requests", tmp_path)
    assert loaded["engine"]["routing_refused"] is None
    assert backend._engine.described["routing_refused"] is not None  # speed is taken without routed experts
    asked = [result["engine"]["args"].get("enable_return_routed_experts") for result in (quality, speed)]
    assert asked == [True, None]  # and each record names the engine that it was measured on
    metrics = speed["metrics"]
    assert metrics["output_throughput"]["value"] > 0 and metrics["mean_ttft_ms"]["n"] == 6
    assert metrics["kv_cache_bytes"]["value"] == 4 * 16 * 2 * 5 * 2 * 64 * 2
    assert metrics["weight_bytes"]["value"] is None and "keeps them elsewhere" in metrics["weight_bytes"]["reason"]
    outputs = read_outputs(tmp_path / speed["samples"]["outputs"])
    assert set(outputs) == {f"w-{index}" for index in range(6)} and set(map(tuple, outputs.values())) == {(7,) * 4}


def test_what_it_decided_is_recorded(start):
    _, loaded = start()
    assert loaded["engine"]["moe"] == {"chosen": "MARLIN", "source": "log", "candidates": ["A", "MARLIN"], "passed_over": []}
    assert loaded["engine"]["attention"]["chosen"] == "FAKE_ATTN" and loaded["engine"]["attention"]["source"] == "class name"
    assert loaded["implementation"][0]["chosen"] == "vLLM MARLIN" and loaded["engine"]["version"] == "9.9.9"
    assert len(loaded["weights"]["sha256"]) == 64


def test_routing_that_cannot_be_had_is_told(start, tmp_path):
    backend, loaded = start("no-routing", first_kind="heldout")
    assert "routed experts need another runner" in loaded["engine"]["routing_refused"]
    engine = backend._engine
    assert _measure(backend, "heldout", tmp_path)["experts"] is None
    _measure(backend, "requests", tmp_path)
    assert backend._engine is engine  # nothing to restart for


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        pytest.param("no-import", "libcudart.so.13: cannot open", id="broken-install"),
        pytest.param("no-load", "ValueError: no such layout", id="refused-by-vllm"),
    ],
)
def test_a_vllm_that_does_not_start_says_why(start, mode, words):
    with pytest.raises(WorkerError, match=words):
        start(mode)
    _nothing_is_left()


def test_a_crash_in_a_step_ends_the_cell_with_its_last_words(start, tmp_path):
    backend, _ = start("die")
    with pytest.raises(WorkerError, match=r"exit code 3; its last words: CUDA error: an illegal memory access") as caught:
        _measure(backend, "requests", tmp_path)
    assert caught.value.kind == "crashed"
    _nothing_is_left()


def test_out_of_memory_has_its_kind(start, tmp_path):
    backend, _ = start("memory")
    with pytest.raises(WorkerError, match=r"Tried to allocate 2\.00 GiB") as caught:
        _measure(backend, "requests", tmp_path)
    assert caught.value.kind == "out_of_memory"


def _nothing_is_left() -> None:
    children = psutil.Process(os.getpid()).children(recursive=True)
    assert not [child for child in children if "driver.py" in " ".join(child.cmdline())]
