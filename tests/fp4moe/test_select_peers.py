"""What vLLM takes per capability, with the refusal that was reported and the version that lifted it."""

import pytest

from fp4moe.errors import SelectionError
from fp4moe.select import Capability, explain_peers


def peer_of(weights, activations, capability, **more):
    choice = explain_peers(weights, activations, Capability.parse(capability), **more)
    return choice.chosen and choice.chosen.name


NVFP4_TABLE = [
    pytest.param("sm_80", "marlin", "marlin", id="a100-weight-only"),
    pytest.param("sm_89", "marlin", "marlin", id="ada-weight-only"),
    pytest.param("sm_90", "marlin", "marlin", id="hopper-weight-only"),
    pytest.param("sm_100", "flashinfer-trtllm", "marlin", id="b200"),
    pytest.param("sm_103", "flashinfer-trtllm", "marlin", id="b300-is-family-100"),
    pytest.param("sm_120", "flashinfer-cutlass", "marlin", id="rtx-5090"),
    pytest.param("cpu", None, None, id="cpu"),
]


@pytest.mark.parametrize(("capability", "w4a4", "w4a16"), NVFP4_TABLE)
def test_nvfp4_choice_by_capability(capability, w4a4, w4a16):
    assert peer_of("nvfp4", "nvfp4", capability) == w4a4
    assert peer_of("nvfp4", "bf16", capability) == w4a16


def test_vllm_0_15_0_refused_sm120_and_0_15_1_accepts_it():
    sm120 = Capability.parse("sm_120")
    refused = explain_peers("nvfp4", "nvfp4", sm120, engine="vllm-0.15.0", backend="flashinfer-cutlass")
    assert refused.chosen is None
    assert refused.refused == (("flashinfer-cutlass", "needs sm_100 or newer family 10x, this device is sm_120"),)
    assert refused.would_run == ("marlin",), "what vLLM's own message does not say"
    accepted = explain_peers("nvfp4", "nvfp4", sm120, engine="vllm-0.15.1", backend="flashinfer-cutlass")
    assert accepted.chosen.computes == "NVFP4 x NVFP4" and accepted.refused == ()


def test_vllm_0_15_0_accepts_the_family_it_was_written_for():
    assert peer_of("nvfp4", "nvfp4", "sm_103", engine="vllm-0.15.0", backend="flashinfer-cutlass") == "flashinfer-cutlass"


def test_without_a_named_backend_0_15_0_falls_to_weight_only():
    choice = explain_peers("nvfp4", "nvfp4", Capability.parse("sm_120"), engine="vllm-0.15.0")
    assert choice.chosen.name == "marlin" and choice.chosen.computes == "NVFP4 x BF16, weight-only"
    assert [name for name, _ in choice.refused] == [
        "flashinfer-trtllm",
        "flashinfer-cutedsl",
        "flashinfer-cutlass",
        "vllm-cutlass",
    ]


def test_the_list_is_in_vllms_order_with_a_reason_each():
    choice = explain_peers("nvfp4", "nvfp4", Capability.parse("sm_120"))
    assert [name for name, _ in choice.refused] == [
        "flashinfer-trtllm",
        "flashinfer-cutedsl",
        "vllm-cutlass",
        "marlin",
        "humming",
        "emulation",
    ]
    assert dict(choice.refused)["vllm-cutlass"] == "runs here, but flashinfer-cutlass comes first"
    assert choice.would_run == ("vllm-cutlass", "marlin", "humming", "emulation")


def test_humming_joined_after_0_24():
    with pytest.raises(SelectionError, match="backend: must be one of .* for vllm-0.24.0 .got 'humming'"):
        explain_peers("nvfp4", "bf16", Capability.parse("sm_90"), engine="vllm-0.24.0", backend="humming")


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [
        pytest.param("sm_80", "marlin", id="before-hopper"),
        pytest.param("sm_90", "flashinfer-cutlass", id="hopper-only-kernel"),
        pytest.param("sm_100", "triton-kernels-unfused", id="trtllm-has-only-the-gpt-oss-activation"),
        pytest.param("sm_120", "marlin", id="triton-kernels-stop-below-sm110"),
    ],
)
def test_mxfp4_choice_for_a_silu_gated_mlp(capability, chosen):
    assert peer_of("mxfp4", "bf16", capability) == chosen


@pytest.mark.parametrize(
    ("weights", "engine", "message"),
    [
        pytest.param("nvfp4", "vllm-9", "engine: must be one of vllm-0.15.0", id="unknown-engine"),
        pytest.param(
            "int4",
            "vllm-main",
            "has rules for mxfp4, nvfp4 here, none for int4",
            id="format-not-in-the-table",
        ),
        pytest.param(
            "mxfp4",
            "vllm-0.15.0",
            "has rules for nvfp4 here, none for mxfp4",
            id="not-recorded-for-that-version",
        ),
    ],
)
def test_unknown_questions_are_refused(weights, engine, message):
    with pytest.raises(SelectionError, match=message):
        explain_peers(weights, "bf16", Capability.parse("sm_90"), engine=engine)
