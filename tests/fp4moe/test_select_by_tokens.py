"""What runs at each number of tokens: the real table on the GPUs of the project, and a fixture table for each rule."""

from dataclasses import replace

import pytest

from fp4moe.errors import SelectionError
from fp4moe.select import (
    COMPLETE,
    NAMES,
    OPS,
    Capability,
    Environment,
    Implementation,
    MoeShape,
    Tuned,
    choose_by_tokens,
    choose_operations,
)
from fp4moe.select.conditions import AnyDevice, AtLeast
from fp4moe.select.environment import REASONS
from fp4moe.select.tuned import all_tuned

MIXTRAL = MoeShape(hidden=4096, intermediate=14336, num_experts=8, top_k=2)
SM90 = Capability.parse("sm_90")


def crossovers(choice):
    return [(crossover.max_tokens, crossover.choice.chosen.name) for crossover in choice.crossovers]


def on(capability, weights="nvfp4", activations="bf16", *, shape=MIXTRAL, **more):
    return choose_by_tokens("experts", weights, activations, Capability.parse(capability), shape=shape, **more)


@pytest.mark.parametrize(
    ("capability", "weights", "activations", "layout", "expected"),
    [
        pytest.param("sm_120", "nvfp4", "nvfp4", "triton-w4a4", [(None, "triton-w4a4")], id="rtx-5090-w4a4"),
        pytest.param("sm_120", "mxfp4", "mxfp4", "triton-w4a4", [(None, "triton-w4a4")], id="rtx-5090-mx-w4a4"),
        pytest.param("sm_120", "nvfp4", "bf16", "rows", [(None, "triton-grouped")], id="rtx-5090-weight-only"),
        pytest.param("sm_100", "nvfp4", "nvfp4", "triton-w4a4", [(None, "triton-w4a4")], id="b200-w4a4"),
        pytest.param(
            "sm_90",
            "nvfp4",
            "bf16",
            "fragments",
            [(128, "cuda-fragments-decode"), (None, "cuda-fragments-grouped")],
            id="h100-weight-only",
        ),
        pytest.param("sm_90", "bf16", "bf16", "rows", [(None, "triton-grouped")], id="h100-bf16"),
        pytest.param("sm_90", "nvfp4", "nvfp4", "rows", [(None, "reference")], id="h100-has-no-fp4-tensor-cores"),
        pytest.param("sm_80", "nvfp4", "bf16", "rows", [(None, "triton-grouped")], id="a100-weight-only"),
        pytest.param("sm_80", "nvfp4", "fp8", "rows", [(None, "reference")], id="a100-has-no-fp8"),
        pytest.param("sm_89", "nvfp4", "fp8", "rows", [(None, "triton-grouped")], id="ada-has-fp8"),
        pytest.param("sm_75", "nvfp4", "bf16", "rows", [(None, "reference")], id="turing"),
        pytest.param("cpu", "nvfp4", "bf16", "rows", [(None, "reference")], id="cpu"),
        pytest.param("sm_90", "int4", "bf16", "rows", [(None, "reference")], id="int4-has-no-kernel"),
    ],
)
def test_choice_on_the_gpus_of_the_project(capability, weights, activations, layout, expected):
    choice = on(capability, weights, activations)
    assert choice.layout == layout and crossovers(choice) == expected
    assert all(row.layout == layout for row in choice.rows)


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        pytest.param(1, "cuda-fragments-decode", id="one-token"),
        pytest.param(128, "cuda-fragments-decode", id="the-last-that-fits"),
        pytest.param(129, "cuda-fragments-grouped", id="one-too-many"),
        pytest.param(8192, "cuda-fragments-grouped", id="prefill"),
    ],
)
def test_a_call_takes_the_row_for_its_tokens(tokens, name):
    assert on("sm_90").at(tokens).chosen.name == name


def test_top_1_doubles_the_tokens_that_the_decode_kernel_takes():
    assert on("sm_90", shape=replace(MIXTRAL, top_k=1)).crossovers[0].max_tokens == 256


def test_a_shape_that_the_kernels_do_not_take_is_refused_in_words():
    choice = on("sm_90", shape=replace(MIXTRAL, hidden=100))
    refused = dict(choice.refused)
    assert refused["cuda-fragments-decode"] == "needs hidden a multiple of 128 (got 100)"
    assert refused["cuda-fragments-grouped"] == "needs hidden a multiple of 128 (got 100)"
    assert choice.layout == "rows"


def test_without_nvcc_hopper_takes_triton_and_says_why():
    choice = on("sm_90", environment=Environment(COMPLETE.tools - {"nvcc"}))
    assert crossovers(choice) == [(None, "triton-grouped")]
    assert dict(choice.refused)["cuda-fragments-decode"] == REASONS["nvcc"]


def test_without_triton_too_only_the_reference_is_left_and_it_can_be_refused():
    bare = Environment(frozenset())
    assert on("sm_90", environment=bare).is_reference
    with pytest.raises(SelectionError) as caught:
        on("sm_90", environment=bare, allow_reference=False)
    assert str(caught.value).splitlines()[0] == "no implementation of experts for nvfp4 runs here:"
    assert f"  triton-grouped: {REASONS['triton']}" in str(caught.value)
    assert "  reference: allowed (slow); choose it with --set kernels.allow_reference=true" in str(caught.value)


@pytest.mark.parametrize("capability", ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "cpu"])
def test_every_row_is_chosen_or_refused_with_a_reason_at_every_number_of_tokens(capability):
    for weights in ("bf16", "fp8", "nvfp4", "mxfp4", "int4", "ternary"):
        for activations in ("fp32", "bf16", "fp8", "nvfp4", "mxfp4"):
            for op in OPS:
                choice = choose_by_tokens(op, weights, activations, Capability.parse(capability), shape=MIXTRAL)
                names = {row.name for row in choice.rows}
                assert all(reason for _, reason in choice.refused)
                assert not names & {name for name, _ in choice.refused}
                for crossover in choice.crossovers:
                    seen = {crossover.choice.chosen.name} | {name for name, reason in crossover.choice.refused if reason}
                    assert seen == names | {name for name, _ in choice.refused}
                assert choice.crossovers[-1].max_tokens is None


def row(name, layout="rows", **more):
    more.setdefault("pack", None if layout == "rows" else "fp4moe.reference:experts")
    args = ("experts", name, ("nvfp4",), ("bf16",), (AtLeast("sm_80"),), "fp4moe.reference:experts")
    return Implementation(*args, layout=layout, **more)


TABLE = (
    row("few-a", "a", max_tokens=16),
    row("some-a", "a", max_tokens=64),
    row("any-a", "a"),
    row("any-b", "b"),
    row("few-b", "b", max_tokens=8),
    row("late", "a", needs=("nvcc",)),
    replace(row("reference"), capabilities=(AnyDevice(),)),
)


def tuned(*pairs):
    return Tuned("H100", "nvfp4", "bf16", MIXTRAL, pairs, "results/baselines/kernels/x.jsonl", "ab")


def chosen(*pairs, **more):
    return on("sm_90", tuned=tuned(*pairs) if pairs else None, table=TABLE, **more)


TUNED = [
    pytest.param((), [(16, "few-a"), (64, "some-a"), (None, "any-a")], id="not-tuned-is-the-order-of-the-table"),
    pytest.param(((32, "some-a"), (None, "any-a")), [(32, "some-a"), (None, "any-a")], id="tuned"),
    pytest.param(((None, "any-a"),), [(None, "any-a")], id="one-row-for-all"),
    pytest.param(((40, "few-a"), (None, "any-a")), [(16, "few-a"), (None, "any-a")], id="tuned-beyond-its-own-limit"),
    pytest.param(((None, "any-b"),), [(None, "any-b")], id="tuned-to-another-layout"),
    pytest.param(((8, "few-b"), (None, "any-b")), [(8, "few-b"), (None, "any-b")], id="tuned-to-two-of-another-layout"),
]


@pytest.mark.parametrize(("pairs", "expected"), TUNED)
def test_crossovers(pairs, expected):
    choice = chosen(*pairs)
    assert crossovers(choice) == expected and choice.notes == ()
    source = "measured on H100, results/baselines/kernels/x.jsonl" if pairs else "the table's order; not measured"
    assert choice.source.startswith(source)


@pytest.mark.parametrize(
    ("pairs", "expected", "note"),
    [
        pytest.param(
            ((8, "few-b"), (None, "any-a")),
            [(None, "any-a")],
            "few-b was tuned for this GPU and is skipped: takes layout b; weights are packed once, as a for any-a",
            id="other-layout",
        ),
        pytest.param(
            ((32, "some-a"), (None, "gone")),
            [(64, "some-a"), (None, "any-a")],
            "gone was tuned for this GPU and is skipped: is no longer in the table",
            id="no-such-row",
        ),
    ],
)
def test_a_tuned_row_that_cannot_run_is_skipped_and_said_so(pairs, expected, note):
    choice = chosen(*pairs)
    assert crossovers(choice) == expected and choice.notes == (note,)


def test_a_tuned_row_that_is_refused_here_is_skipped_with_its_reason():
    choice = chosen((None, "late"), environment=Environment(frozenset()))
    assert choice.chosen.name == "any-a"
    assert choice.notes == (f"late was tuned for this GPU and is skipped: {REASONS['nvcc']}",)


def test_rows_that_are_passed_over_say_what_comes_first():
    refused = dict(chosen((None, "any-a")).refused)
    assert refused["few-a"] == "runs here, but any-a comes first"
    assert refused["any-b"] == "takes layout b; weights are packed once, as a for any-a"


def test_rows_that_were_measured_say_how_much_slower_they_were():
    times = {"few-a": {1: 60.0, 16: 110.0}, "any-a": {1: 50.0, 16: 100.0, 64: 200.0}, "any-b": {1: 900.0}}
    measured = replace(tuned((None, "any-a")), microseconds=times)
    refused = dict(on("sm_90", tuned=measured, table=TABLE).refused)
    assert refused["few-a"] == "runs here, but took 1.10 to 1.20 times as long as what is taken, at 1 to 16 tokens on H100"
    assert refused["some-a"] == "runs here, but any-a comes first", "not measured"
    assert refused["any-b"].startswith("takes layout b"), "what it took says nothing where it cannot be taken"


def test_shipped_tables_hold_the_times_that_they_were_made_from():
    for entry in all_tuned():
        assert {name for _, name in entry.crossovers} <= set(entry.microseconds)
        for name, own in entry.microseconds.items():
            assert own and all(tokens >= 1 and us > 0 for tokens, us in own.items()), name


def test_a_row_for_many_tokens_only_leaves_few_to_the_next():
    table = (row("many", min_tokens=64), TABLE[-1])
    choice = on("sm_90", table=table)
    assert crossovers(choice) == [(63, "reference"), (None, "many")]
    assert [choice.at(n).chosen.name for n in (1, 63, 64, 5000)] == ["reference", "reference", "many", "many"]


def test_only_rows_with_a_limit_are_not_enough():
    with pytest.raises(SelectionError, match="few-a: takes at most 16 tokens a call, any number may come"):
        on("sm_90", table=TABLE[:1])


@pytest.mark.parametrize(
    ("name", "layout", "call_tokens"),
    [
        pytest.param("triton-grouped", "rows", None, id="not-the-preferred"),
        pytest.param("reference", "rows", None, id="the-definition"),
        pytest.param("cuda-fragments-decode", "fragments", 128, id="beyond-its-limit-in-pieces"),
    ],
)
def test_one_kernel_can_be_forced(name, layout, call_tokens):
    choice = on("sm_90", implementation=name)
    assert (crossovers(choice), choice.layout, choice.call_tokens) == ([(None, name)], layout, call_tokens)
    assert choice.source == "asked for by name" and dict(choice.refused).keys() == {n for n, _ in choice.refused}


def test_a_forced_row_that_does_not_run_is_an_error_with_reason_and_alternatives():
    with pytest.raises(SelectionError) as caught:
        on("sm_80", implementation="cuda-fragments-grouped")
    assert str(caught.value) == (
        "kernels.implementation: cuda-fragments-grouped does not run experts here: needs sm_90 or newer family 9x, "
        "this device is sm_80; what runs here: triton-grouped, reference"
    )


def test_an_unknown_name_lists_the_names():
    with pytest.raises(SelectionError, match=f"must be one of {', '.join(NAMES)} .got 'marlin'."):
        on("sm_90", implementation="marlin")


def test_forcing_the_experts_leaves_routing_to_its_own_order():
    route, experts = choose_operations(
        "nvfp4", "bf16", SM90, shape=MIXTRAL, gpu="NVIDIA H100", environment=COMPLETE, implementation="triton-grouped"
    )
    assert (route.chosen.name, experts.chosen.name) == ("triton-route", "triton-grouped")
    both = choose_operations("nvfp4", "bf16", SM90, shape=MIXTRAL, gpu=None, environment=COMPLETE, implementation="reference")
    assert [choice.chosen.name for choice in both] == ["reference", "reference"]
