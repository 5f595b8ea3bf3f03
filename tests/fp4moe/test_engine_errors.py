"""Requests that cannot be served, and cancelled ones, leave the engine alive for the others."""

import pytest

from fp4moe.errors import EngineError
from fp4moe.precision import Precision
from fp4moe.runtime import Engine, MixtralConfig, RandomWeights, Request, load_model

CONFIG = MixtralConfig(
    vocab_size=50, hidden_size=32, intermediate_size=32, num_layers=1,
    num_heads=2, num_kv_heads=1, head_dim=16, num_experts=4, top_k=2, max_positions=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_model(RandomWeights(CONFIG), Precision("bf16"))


@pytest.fixture
def engine(model):
    return Engine(model, max_slots=2, max_context=16)


def finish(engine):
    tokens = {}
    while engine.has_work:
        for request_id, token in engine.step().emitted:
            tokens.setdefault(request_id, []).append(token)
    return tokens


def test_nothing_to_do_is_said(engine):
    assert not engine.has_work
    with pytest.raises(EngineError, match="needs a waiting or running request"):
        engine.step()


REFUSED = [
    pytest.param(
        Request("x", [1] * 12, 5),
        r"must fit max_context = 16 \(got 17 = 12 \+ 5\); shorten the prompt",
        id="too-long",
    ),
    pytest.param(Request("x", [], 5), "must have at least one prompt token", id="empty-prompt"),
    pytest.param(Request("x", [1], 0), "max_new_tokens >= 1", id="nothing-asked"),
    pytest.param(
        Request("x", [3, 50], 1),
        r"prompt tokens must be in \[0, 50\) \(got 3 to 50\)",
        id="beyond-vocabulary",
    ),
    pytest.param(Request("x", [-1], 1), r"got -1 to -1", id="negative-token"),
    pytest.param(Request("a", [1], 1), "request 'a': request_id must be new", id="id-twice"),
]


@pytest.mark.parametrize(("request_", "message"), REFUSED)
def test_a_refused_request_has_no_effect_on_the_others(engine, request_, message):
    engine.submit(Request("a", [1, 2], 4))
    engine.step()
    with pytest.raises(EngineError, match=message):
        engine.submit(request_)
    engine.submit(Request("b", [3], 2))
    assert {name: len(tokens) for name, tokens in finish(engine).items()} == {"a": 3, "b": 2}


def test_a_request_that_exactly_fits_is_served(engine):
    engine.submit(Request("a", [1] * 12, 4))
    assert len(finish(engine)["a"]) == 4


def test_cancelling_a_running_request_frees_its_slot_for_a_waiting_one(engine):
    for name in "abc":
        engine.submit(Request(name, [1, 2, 3], 6))
    for _ in range(3):
        engine.step()
    engine.cancel("a")
    result = engine.step()
    assert (result.phase, result.emitted[0][0]) == ("prefill", "c")
    tokens = finish(engine)
    assert "a" not in tokens and set(tokens) == {"b", "c"}


def test_cancelled_neighbors_do_not_change_tokens(model, engine):
    reference = Engine(model, max_slots=1, max_context=16)
    reference.submit(Request("b", [4, 5], 8))
    expected = finish(reference)["b"]
    engine.submit(Request("a", [1, 2, 3], 8))
    engine.submit(Request("b", [4, 5], 8))
    tokens = [token for _ in range(4) for request_id, token in engine.step().emitted if request_id == "b"]
    engine.cancel("a")
    assert tokens + finish(engine)["b"] == expected


def test_cancelling_a_waiting_request_keeps_the_order_of_the_others(engine):
    for name in "abcd":
        engine.submit(Request(name, [1], 2))
    engine.step(), engine.step()
    engine.cancel("c")
    order = []
    while engine.has_work:
        result = engine.step()
        order += [request_id for request_id, _ in result.emitted] if result.phase == "prefill" else []
    assert order == ["d"]


def test_cancelling_the_last_request_leaves_nothing_to_do(engine):
    engine.submit(Request("a", [1], 5))
    engine.step()
    engine.cancel("a")
    assert not engine.has_work
    engine.submit(Request("b", [1], 2))
    assert len(finish(engine)["b"]) == 2


@pytest.mark.parametrize("name", [pytest.param("a", id="finished"), pytest.param("zz", id="never-submitted")])
def test_only_waiting_or_running_requests_can_be_cancelled(engine, name):
    engine.submit(Request("a", [1], 1))
    finish(engine)
    with pytest.raises(EngineError, match="must be waiting or running to be cancelled"):
        engine.cancel(name)


def test_a_prefill_that_fails_loses_its_request_but_no_slot(model, engine, monkeypatch):
    def failing(*args, **more):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(model, "prefill", failing)
        engine.submit(Request("a", [1], 2))
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.step()
    assert not engine.has_work
    for name in "bc":
        engine.submit(Request(name, [2], 2))
    assert [engine.step().phase for _ in range(3)] == ["prefill", "prefill", "decode"]


def test_slots_are_reused_many_times(engine):
    for number in range(7):
        engine.submit(Request(str(number), [number + 1], 3))
    assert {len(tokens) for tokens in finish(engine).values()} == {3}
    assert sorted(engine._free) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"max_slots": 0, "max_context": 8}, "max_slots >= 1", id="no-slot"),
        pytest.param({"max_slots": 1, "max_context": 33}, "max_context <= 32", id="beyond-the-models-positions"),
        pytest.param(
            {"max_slots": 1, "max_context": 8, "kv_dtype": "fp4"},
            "kv_dtype: must be one of bf16, fp32",
            id="kv",
        ),
    ],
)
def test_an_impossible_engine_is_refused(model, arguments, message):
    with pytest.raises(EngineError, match=message):
        Engine(model, **arguments)
