"""Continuous batching: what each request gets does not depend on who else is there."""

import time

import pytest
import torch

from fp4moe.precision import Precision
from fp4moe.runtime import (
    Engine,
    MixtralConfig,
    RandomWeights,
    Request,
    RoutingRecorder,
    Sampling,
    load_model,
)

CONFIG = MixtralConfig(
    vocab_size=97, hidden_size=64, intermediate_size=64, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, num_experts=4, top_k=2, rope_theta=1e4, max_positions=128,
)  # fmt: skip


@pytest.fixture(scope="module", params=["bf16", "nvfp4"])
def model(request):
    return load_model(RandomWeights(CONFIG, seed=2), Precision(request.param))


def prompt(length, seed):
    return torch.randint(97, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def requests_of(sampling=lambda seed: Sampling()):
    """Lengths that begin and end at different times; one prompt of a single token."""
    lengths = [(1, 9), (17, 3), (5, 14), (30, 1), (2, 8), (11, 6)]
    return [Request(f"r{i}", prompt(p, i), new, sampling(i)) for i, (p, new) in enumerate(lengths)]


def run(engine, requests, arrivals=None):
    """Tokens by request; `arrivals[i]` is the step before which request i is submitted."""
    pending = list(zip(arrivals or [0] * len(requests), requests, strict=True))
    tokens, results = {}, []
    while pending or engine.has_work:
        while pending and (pending[0][0] <= len(results) or not engine.has_work):
            engine.submit(pending.pop(0)[1])
        results.append(engine.step())
        for request_id, token in results[-1].emitted:
            tokens.setdefault(request_id, []).append(token)
    return tokens, results


def alone(model, request, kv_dtype="bf16"):
    return run(Engine(model, max_slots=1, max_context=64, kv_dtype=kv_dtype), [request])[0][request.request_id]


@pytest.mark.parametrize(
    ("max_slots", "arrivals"),
    [
        pytest.param(6, None, id="all-at-once"),
        pytest.param(2, None, id="more-requests-than-slots"),
        pytest.param(4, [0, 2, 3, 9, 9, 15], id="arriving-while-others-run"),
        pytest.param(1, None, id="one-slot-one-after-another"),
    ],
)
@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(lambda seed: Sampling(), id="greedy"),
        pytest.param(lambda seed: Sampling(temperature=0.8, top_p=0.9, seed=seed), id="sampled"),
    ],
)
def test_tokens_are_those_of_the_request_alone(model, sampling, max_slots, arrivals):
    requests = requests_of(sampling)
    tokens, _ = run(Engine(model, max_slots=max_slots, max_context=64), requests, arrivals)
    assert tokens == {request.request_id: alone(model, request) for request in requests}
    assert {r.request_id: r.max_new_tokens for r in requests} == {key: len(value) for key, value in tokens.items()}


def test_greedy_tokens_are_those_of_scoring_again_and_again(model):
    request = requests_of()[2]
    ids = list(request.prompt_ids)
    for _ in range(request.max_new_tokens):
        ids.append(int(model.score(torch.tensor([ids]))[0, -1].argmax()))
    assert alone(model, request, kv_dtype="fp32") == ids[len(request.prompt_ids) :]


def test_prefill_goes_first_one_request_a_step_and_then_all_decode_together(model):
    requests = [Request(f"r{i}", prompt(4 + i, i), 3) for i in range(3)]
    _, results = run(Engine(model, max_slots=2, max_context=64), requests)
    assert [(r.index, r.phase, r.num_tokens, r.num_requests, r.finished) for r in results] == [
        (0, "prefill", 4, 1, ()),
        (1, "prefill", 5, 1, ()),
        (2, "decode", 2, 2, ()),
        (3, "decode", 2, 2, ("r0", "r1")),
        (4, "prefill", 6, 1, ()),
        (5, "decode", 1, 1, ()),
        (6, "decode", 1, 1, ("r2",)),
    ]


def test_times_are_ordered_and_on_the_performance_counter(model):
    before_ns = time.perf_counter_ns()
    _, results = run(Engine(model, max_slots=2, max_context=64), requests_of()[:2])
    times = [before_ns] + [t for r in results for t in (r.start_ns, r.end_ns)] + [time.perf_counter_ns()]
    assert times == sorted(times)


def test_end_of_sequence_ends_a_request_unless_ignored(model):
    full = alone(model, Request("probe", prompt(6, 3), 12))
    config = CONFIG.__class__(**{name: getattr(CONFIG, name) for name in CONFIG.__slots__} | {"eos_token_ids": (full[4],)})
    stopping = type(model)(config, model.precision, model.weights, model.choices)
    assert alone(stopping, Request("a", prompt(6, 3), 12, ignore_eos=False)) == full[: full.index(full[4]) + 1]
    assert alone(stopping, Request("b", prompt(6, 3), 12)) == full


def test_routing_is_recorded_with_phase_step_and_request(model):
    recorder = RoutingRecorder(CONFIG.num_layers)
    engine = Engine(model, max_slots=2, max_context=64, recorder=recorder)
    _, results = run(engine, [Request("a", prompt(3, 0), 3), Request("b", prompt(2, 1), 2)])
    arrays = recorder.arrays()
    assert engine.request_numbers == {"a": 0, "b": 1}
    assert arrays["step"].tolist() == [0] * 3 + [1] * 2 + [2] * 2 + [3]
    assert arrays["phase"].tolist() == [0] * 5 + [1] * 3
    assert arrays["request"].tolist() == [0, 0, 0, 1, 1, 0, 1, 0]
    assert len(arrays["expert_ids"]) == sum(result.num_tokens for result in results)
    assert (arrays["expert_ids"] < CONFIG.num_experts).all()


def test_recording_does_not_change_tokens(model):
    requests = requests_of()[:3]
    engine = Engine(model, max_slots=3, max_context=64, recorder=RoutingRecorder(CONFIG.num_layers))
    assert run(engine, requests)[0] == run(Engine(model, max_slots=3, max_context=64), requests)[0]
