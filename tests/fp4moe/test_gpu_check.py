"""The GPU engine's check: it says why it cannot run, and its bounds and parsers are right; on a GPU it passes."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from fp4moe.precision import Precision
from fp4moe.runtime import MixtralConfig, RandomWeights, RoutingRecorder, load_model
from fp4moe.runtime.gpu import check
from fp4moe.runtime.gpu.checks import forced, mixtral, serving

HAS_GPU = torch.cuda.is_available()
CONFIG = MixtralConfig(
    vocab_size=50, hidden_size=32, intermediate_size=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16,
    num_experts=4, top_k=2, max_positions=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_model(RandomWeights(CONFIG, seed=1), Precision("nvfp4"))


@pytest.mark.skipif(HAS_GPU, reason="asks what happens without a GPU")
def test_without_a_gpu_it_fails_with_the_reason():
    with pytest.raises(SystemExit, match="needs a CUDA GPU and none was found"):
        check.main([])


def test_a_part_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        check.main(["--only", "nothing"])
    assert ended.value.code == 2 and "invalid choice: 'nothing'" in capsys.readouterr().err


def test_a_failed_line_and_a_part_that_raises_are_counted_and_the_rest_still_runs(capsys):
    def breaks():
        yield {"check": "a", "passed": True}
        raise RuntimeError("no")

    num_failed = check.report({"one": breaks, "two": lambda: iter([{"check": "b", "passed": False}])})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert num_failed == 2 and lines[-1] == {"lines": 3, "failed": 2}
    assert lines[1]["error"] == "RuntimeError: no" and lines[3]["part"] == "two"


def test_the_reference_under_its_own_experts_is_the_reference_without_regret(model):
    tokens, recorder = torch.arange(3, 15), RoutingRecorder(CONFIG.num_layers)
    right = model.score(tokens.unsqueeze(0), recorder)[0]
    found = forced.forced(model, tokens.unsqueeze(0), torch.from_numpy(recorder.arrays()["expert_ids"]))
    # The same products; the router's weights are a softmax over two logits in place of one over four, renormalized.
    assert torch.allclose(found.logits_NV, right, atol=1e-5) and not found.regret_LN.any()


def test_another_expert_is_regretted_by_the_difference_of_its_logit(model):
    tokens, recorder = torch.arange(3, 9), RoutingRecorder(CONFIG.num_layers)
    right = model.score(tokens.unsqueeze(0), recorder)[0]
    ids_TLK = torch.from_numpy(recorder.arrays()["expert_ids"]).clone()
    taken = set(ids_TLK[4, 0].tolist())
    ids_TLK[4, 0, 1] = min(set(range(4)) - taken)
    found = forced.forced(model, tokens.unsqueeze(0), ids_TLK)
    assert found.regret_LN[0, 4] > 0 and not found.regret_LN[0, :4].any()
    # Causal: what came before does not change.
    assert torch.allclose(found.logits_NV[:4], right[:4], atol=1e-5) and not torch.allclose(found.logits_NV[4:], right[4:])


def test_the_bound_is_what_moved_embeddings_do_and_grows_with_the_share(model, monkeypatch):
    # 8 roundings a layer of 2^-9.3: two layers move the stream by sqrt(17) of it.
    assert forced.moved_share(2) == pytest.approx(17**0.5 * 2.0**-9.3)
    tokens_BT, recorder = torch.arange(3, 15).view(2, 6), RoutingRecorder(CONFIG.num_layers)
    model.score(tokens_BT, recorder)
    ids_NLK = torch.from_numpy(recorder.arrays()["expert_ids"])
    right = forced.forced(model, tokens_BT, ids_NLK)
    found = forced.bounds(model, tokens_BT, ids_NLK, right)
    moved = forced.forced(forced.moved_model(model, forced.moved_share(2)), tokens_BT, ids_NLK)
    assert found.logit == pytest.approx(2 * float((moved.logits_NV - right.logits_NV).abs().max())) and found.logit > 0
    assert found.router == pytest.approx(2 * float((moved.router_LNE - right.router_LNE).abs().max())) and found.router > 0
    monkeypatch.setattr(forced, "ROUNDINGS_A_LAYER", 32)
    assert forced.bounds(model, tokens_BT, ids_NLK, right).logit > 1.5 * found.logit


def test_moved_embeddings_leave_a_tied_head_as_it_is(model):
    tied = replace(model.weights, head_VD=None)
    moved = forced.moved_model(type(model)(model.config, model.precision, tied, model.choices), 0.1).weights
    assert torch.equal(moved.head_VD, tied.embedding_VD) and not torch.equal(moved.embedding_VD, tied.embedding_VD)


def test_chosen_gaps():
    logits = torch.tensor([[1.0, 3.0, 2.5], [0.0, 0.0, -1.0]])
    assert forced.chosen_gaps(logits, torch.tensor([2, 1])).tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    ("a", "b", "place"),
    [
        pytest.param([1, 2], [1, 2], None, id="equal"),
        pytest.param([1, 2, 3], [1, 5, 3], 1, id="middle"),
        pytest.param([1, 2], [1], None, id="a-prefix"),
    ],
)
def test_first_difference(a, b, place):
    assert serving.first_difference(a, b) == place


def test_what_nvidia_smi_says():
    assert mixtral.parse_used("GPU-ab-1, 512\nGPU-cd-2, 0\n\n") == {"ab-1": 512 * 2**20, "cd-2": 0}


def test_prompts_have_their_lengths_and_windows_are_spread_over_the_text():
    ids = list(range(1000))
    prompts = serving.prompts(ids, 16)
    assert [len(prompt) for prompt in prompts[:14]] == list(serving.PROMPT_LENGTHS) and len(prompts[14]) == 1
    found = serving.windows(ids, count=3, length=100)
    assert found[:, 0].tolist() == [0, 450, 900] and found[1].tolist() == list(range(450, 550))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA GPU")
def test_everything_on_this_gpu():
    done = subprocess.run([sys.executable, "-m", "fp4moe.runtime.gpu.check"], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, [line for line in lines if line.get("passed") is False][:5] or done.stderr[-2000:]
