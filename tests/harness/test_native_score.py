"""Which arithmetic scores given tokens: that of the engine that serves, and the same one for quality cells and the server."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from fp4moe.runtime.engines import ENGINES, NAMES
from harness.backends import native_score
from harness.backends.native import NativeBackend
from harness.backends.native_engine import NativeEngine
from harness.models import resolve
from harness.precisions import Precision
from harness.scenario.schema import ModelSpec
from tiny_checkpoint import write_tiny

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture
def backend(tmp_path) -> NativeBackend:
    """Loaded on the CPU."""
    made = NativeBackend()
    made.load(
        source=asdict(resolve(ModelSpec(name="mine", path=str(write_tiny(tmp_path / "mine"))))),
        precision=asdict(Precision("bf16", "none", "bf16")), torch_device="cpu", seed=0, cpu_threads=1, allow_reference=True,
        progress=lambda *told: None,
    )  # fmt: skip
    return made


@pytest.fixture
def fake_gpu(monkeypatch):
    """The GPU's row is taken, by a scorer that gives logits of its own: twice the model's."""
    gpu = SimpleNamespace(row=replace(ENGINES[0], refusal=lambda *_: None))
    monkeypatch.setattr(native_score, "engine_here", lambda model: gpu)
    made = []

    def scorer(model):
        made.append(model)
        return lambda tokens, recorder: 2 * model.score(tokens, recorder)

    monkeypatch.setitem(native_score.SCORERS, "gpu", scorer)
    return made


def served_logprobs(backend: NativeBackend) -> list[float]:
    scores = NativeEngine(backend, max_slots=1, max_context=16).score(IDS, num_top=1)
    assert scores[0] is None
    return [score.logprob for score in scores[1:]]


def logprobs_of(logits_TV: torch.Tensor) -> list[float]:
    return logits_TV.log_softmax(-1).gather(-1, torch.tensor(IDS)[1:, None]).squeeze(-1).tolist()


def test_every_engine_has_a_scorer():
    assert tuple(native_score.SCORERS) == NAMES


def test_on_a_cpu_the_server_and_the_quality_cell_score_as_the_model_does(backend):
    tokens = torch.tensor([IDS[:-1]])
    right = backend.model.score(tokens)
    # The same function on the same operands: not a bit may differ.
    assert torch.equal(backend.score(tokens), right)
    assert served_logprobs(backend) == logprobs_of(right[0])


def test_where_the_gpu_engine_serves_both_score_by_its_passes(backend, fake_gpu):
    tokens = torch.tensor([IDS[:-1]])
    other = 2 * backend.model.score(tokens)
    assert torch.equal(backend.score(tokens), other)
    assert served_logprobs(backend) == logprobs_of(other[0])
    assert served_logprobs(backend) != logprobs_of(backend.model.score(tokens)[0])
    assert fake_gpu == [backend.model]  # one scorer, kept


def test_passes_are_kept_until_a_sequence_is_longer(backend, monkeypatch):
    pytest.importorskip("triton")
    from fp4moe.runtime.gpu import passes, scoring

    made = []

    def make(model, *, max_context):
        made.append(SimpleNamespace(max_context=max_context))
        return made[-1]

    monkeypatch.setattr(passes, "DecoderPasses", make)
    monkeypatch.setattr(scoring, "score", lambda held, tokens, recorder: held.max_context)
    score = native_score.SCORERS["gpu"](backend.model)
    lengths = [5, 3, 5, 9, 4]
    assert [score(torch.zeros(1, length), None) for length in lengths] == [5, 5, 5, 9, 9]
    assert [held.max_context for held in made] == [5, 9]
