"""Which implementation and why not the others: the real table, and a fixture table of several kernels."""

import subprocess
import sys

import pytest

from fp4moe import formats, reference
from fp4moe.errors import SelectionError
from fp4moe.select import (
    IMPLEMENTATIONS,
    OPS,
    Capability,
    Environment,
    Implementation,
    MoeShape,
    ShapeLimits,
    choose,
    explain,
)
from fp4moe.select.conditions import AnyDevice, AtLeast, Family, SharedMemory
from fp4moe.select.environment import REASONS
from fp4moe.select.table import ALL_ACTIVATIONS, ALL_WEIGHTS

CAPABILITIES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "cpu")


def row(name, *capabilities, weights=("nvfp4",), activations=("bf16",), **more):
    return Implementation("experts", name, weights, activations, capabilities, "fp4moe.reference:experts", **more)


TABLE = (
    row("triton-native", Family("sm_100"), activations=("nvfp4",)),
    row("triton-wide", AtLeast("sm_90"), SharedMemory(200_000), weights=("nvfp4", "mxfp4")),
    row("triton-decode", AtLeast("sm_80"), max_tokens=16),
    row("triton-upcast", AtLeast("sm_80")),
    row("reference", AnyDevice(), weights=ALL_WEIGHTS, activations=ALL_ACTIVATIONS),
)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("weights", ALL_WEIGHTS)
@pytest.mark.parametrize("op", OPS)
def test_every_operation_runs_in_every_format_on_every_capability(op, weights, capability):
    for activations in ALL_ACTIVATIONS:
        choice = choose(op, weights, activations, Capability.parse(capability))
        assert choice.op == op and choice.chosen.takes_any_number
        assert all(reason for _, reason in choice.refused)


def test_nvfp4_on_sm120_is_not_refused():
    """The reported failure: only capability family 100 was accepted, and 120 // 10 = 12."""
    for op in OPS:
        assert choose(op, "nvfp4", "bf16", Capability.parse("sm_120")).chosen is not None


def test_the_table_names_formats_that_exist_and_functions_that_exist():
    assert set(formats.WEIGHT_FORMATS) == set(ALL_WEIGHTS)
    assert set(formats.ACTIVATION_FORMATS) == set(ALL_ACTIVATIONS)
    assert {implementation.op for implementation in IMPLEMENTATIONS} == set(OPS)
    for implementation in IMPLEMENTATIONS:
        if implementation.is_reference:
            assert implementation.load() is getattr(reference, implementation.op)


@pytest.mark.parametrize(
    ("activations", "capability", "tokens", "chosen"),
    [
        pytest.param("nvfp4", "sm_103", None, "triton-native", id="family-100-has-native-fp4"),
        pytest.param("nvfp4", "sm_120", None, "reference", id="family-120-has-not-and-falls-to-the-only-other-w4a4"),
        pytest.param("bf16", "sm_90", None, "triton-wide", id="first-in-the-table-wins"),
        pytest.param("bf16", "sm_120", None, "triton-upcast", id="too-little-shared-memory-for-the-first"),
        pytest.param("bf16", "sm_80", 16, "triton-decode", id="few-tokens"),
        pytest.param("bf16", "sm_80", 17, "triton-upcast", id="one-token-too-many"),
        pytest.param("bf16", "cpu", 1, "reference", id="cpu"),
    ],
)
def test_order_is_preference(activations, capability, tokens, chosen):
    choice = choose("experts", "nvfp4", activations, Capability.parse(capability), tokens=tokens, table=TABLE)
    assert choice.chosen.name == chosen
    assert choice.is_reference == (chosen == "reference")
    assert [name for name, _ in choice.refused] == [row.name for row in TABLE if row.name != chosen]


def test_every_other_row_has_its_reason():
    choice = choose("experts", "nvfp4", "bf16", Capability.parse("sm_120"), table=TABLE)
    assert dict(choice.refused) == {
        "triton-native": "takes activations in nvfp4, not bf16",
        "triton-wide": "needs 200000 bytes of shared memory a block, this device (sm_120) has 101376",
        "triton-decode": "takes at most 16 tokens a call, any number may come",
        "reference": "runs here, but triton-upcast comes first",
    }


def test_the_error_lists_every_refusal_and_the_next_step():
    table = (row("triton-native", AtLeast("sm_100")), row("triton-upcast", AtLeast("sm_80")), TABLE[-1])
    with pytest.raises(SelectionError) as caught:
        choose("experts", "nvfp4", "bf16", Capability.parse("sm_75"), allow_reference=False, table=table)
    assert str(caught.value) == (
        "no implementation of experts for nvfp4 runs here:\n"
        "  triton-native: needs sm_100 or newer, this device is sm_75\n"
        "  triton-upcast: needs sm_80 or newer, this device is sm_75\n"
        "  reference: allowed (slow); choose it with --set kernels.allow_reference=true"
    )


def test_disallowing_the_reference_does_not_matter_where_a_kernel_runs():
    capability = Capability.parse("sm_80")
    choice = choose("experts", "nvfp4", "bf16", capability, allow_reference=False, table=TABLE)
    assert choice.chosen.name == "triton-upcast"
    assert ("reference", "not allowed") in choice.refused


def test_an_unknown_operation_and_an_unknown_format_say_what_is_known():
    with pytest.raises(SelectionError, match=r"op: must be one of route, experts \(got 'sort'\)"):
        choose("sort", "nvfp4", "bf16", Capability.parse("cpu"))
    with pytest.raises(SelectionError, match="reference: takes weights in bf16 or .*, not nvpf4"):
        choose("experts", "nvpf4", "bf16", Capability.parse("cpu"))


SHAPE = MoeShape(hidden=100, intermediate=64, num_experts=8, top_k=2)


@pytest.mark.parametrize(
    ("limited", "tokens", "reason"),
    [
        pytest.param(
            {"limits": ShapeLimits(hidden_multiple=128)}, 1, "needs hidden a multiple of 128 (got 100)", id="shape-of-the-layer"
        ),
        pytest.param({"needs": ("nvcc",)}, 1, REASONS["nvcc"], id="tool-that-is-missing"),
        pytest.param({"max_slots": 256}, 129, "takes at most 128 tokens a call, 129 may come", id="tokens-times-top-k"),
        pytest.param({"min_tokens": 8}, 7, "takes at least 8 tokens a call, 7 may come", id="too-few-tokens"),
        pytest.param(
            {"pairs": (("nvfp4", "fp8"),), "activations": ("bf16", "fp8")},
            1,
            "takes nvfp4 x fp8; not nvfp4 x bf16",
            id="formats-that-are-taken-apart-but-not-together",
        ),
        pytest.param({"more_for": (("bf16", AtLeast("sm_89")),)}, 1, "needs sm_89 or newer, this device is sm_80", id="device"),
    ],
)
def test_what_else_a_row_may_ask_for(limited, tokens, reason):
    table = (row("limited", AtLeast("sm_80"), **limited), TABLE[-1])
    question = {"tokens": tokens, "shape": SHAPE, "environment": Environment(frozenset()), "table": table}
    choice = choose("experts", "nvfp4", "bf16", Capability.parse("sm_80"), **question)
    assert choice.is_reference and choice.refused == (("limited", reason),)


def test_a_limit_on_slots_without_a_shape_is_refused_not_guessed():
    table = (row("limited", AtLeast("sm_80"), max_slots=256), TABLE[-1])
    choice = choose("experts", "nvfp4", "bf16", Capability.parse("sm_80"), tokens=1, table=table)
    assert choice.refused == (("limited", "takes at most 256 tokens x top_k a call, and top_k is not known"),)


def test_explain_gives_every_row_and_none_where_it_runs():
    rows = explain("experts", "mxfp4", "bf16", Capability.parse("sm_90"), table=TABLE)
    assert [(row.name, reason is None) for row, reason in rows] == [
        ("triton-native", False),
        ("triton-wide", True),
        ("triton-decode", False),
        ("triton-upcast", False),
        ("reference", True),
    ]


def test_targets_are_imported_only_when_called():
    lazy = row("elsewhere", AnyDevice())
    broken = Implementation("experts", "missing", ("nvfp4",), ("bf16",), (AnyDevice(),), "no_such_module:kernel")
    choice = choose("experts", "nvfp4", "bf16", Capability.parse("cpu"), table=(broken, lazy))
    with pytest.raises(ModuleNotFoundError):
        choice.chosen.load()


def test_selection_imports_no_torch():
    code = "import sys, fp4moe.select as s; s.choose('experts', 'nvfp4', 'bf16', s.Capability.parse('sm_120')); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
