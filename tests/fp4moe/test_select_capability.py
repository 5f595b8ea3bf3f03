"""Devices by name, and the predicates over them, each with its reason in words."""

import pytest

from fp4moe.errors import SelectionError
from fp4moe.select.capability import Capability
from fp4moe.select.conditions import AnyCuda, AnyOf, AtLeast, Family, OlderThan, OneOf, SharedMemory

SM120 = Capability.parse("sm_120")


@pytest.mark.parametrize(
    ("text", "name", "major", "minor", "family"),
    [
        pytest.param("sm_120", "sm_120", 12, 0, 12, id="as-nvcc-writes-it"),
        pytest.param("12.0", "sm_120", 12, 0, 12, id="as-cuda-reports-it"),
        pytest.param("sm89", "sm_89", 8, 9, 8, id="without-underscore"),
        pytest.param("SM_90a", "sm_90", 9, 0, 9, id="arch-specific-suffix"),
        pytest.param("10.3", "sm_103", 10, 3, 10, id="three-digits-from-a-point"),
        pytest.param("cpu", "cpu", 0, 0, 0, id="cpu"),
    ],
)
def test_parse(text, name, major, minor, family):
    capability = Capability.parse(text)
    assert (capability.name, capability.major, capability.minor, capability.family) == (
        name,
        major,
        minor,
        family,
    )


@pytest.mark.parametrize("text", ["", "sm_", "12", "gpu", "sm_1200", "12.0.1"])
def test_parse_refuses_what_is_no_capability(text):
    with pytest.raises(SelectionError, match="must be like 'sm_120', '12.0' or 'cpu'"):
        Capability.parse(text)


def test_of_device_needs_no_gpu_for_the_cpu_and_refuses_other_kinds():
    assert Capability.of_device("cpu") == Capability("cpu")
    with pytest.raises(SelectionError, match="got 'tpu'"):
        Capability.of_device("tpu")


CONDITIONS = [
    pytest.param(AtLeast("sm_80"), "sm_120", "sm_75", "needs sm_80 or newer, this device is sm_75", id="at-least"),
    pytest.param(AtLeast("sm_80"), "sm_80", "cpu", "needs sm_80 or newer, this device is cpu", id="cpu-has-no-number"),
    pytest.param(
        Family("sm_100"),
        "sm_103",
        "sm_120",
        "needs sm_100 or newer family 10x, this device is sm_120",
        id="family-excludes-newer-families",
    ),
    pytest.param(
        Family("sm_103"),
        "sm_103",
        "sm_100",
        "needs sm_103 or newer family 10x, this device is sm_100",
        id="family-floor",
    ),
    pytest.param(OneOf(("sm_90",)), "sm_90", "sm_100", "needs sm_90, this device is sm_100", id="one-of"),
    pytest.param(
        OneOf(("cpu", "sm_90")),
        "cpu",
        "sm_80",
        "needs cpu or sm_90, this device is sm_80",
        id="cpu-in-one-of",
    ),
    pytest.param(AnyCuda(), "sm_75", "cpu", "needs a CUDA device, this device is cpu", id="any-cuda"),
    pytest.param(
        OlderThan("sm_110"),
        "sm_103",
        "sm_120",
        "needs a device older than sm_110, this device is sm_120",
        id="older-than",
    ),
    pytest.param(
        SharedMemory(200_000),
        "sm_90",
        "sm_120",
        "needs 200000 bytes of shared memory a block, this device (sm_120) has 101376",
        id="sm120-has-99-kib",
    ),
    pytest.param(
        SharedMemory(1),
        "sm_80",
        "sm_70",
        "needs 1 bytes of shared memory a block, this device (sm_70) has an unknown amount",
        id="unknown-is-not-enough",
    ),
    pytest.param(
        AnyOf((Family("sm_100"), OneOf(("sm_90",)))),
        "sm_90",
        "sm_120",
        "needs sm_100 or newer family 10x or sm_90, this device is sm_120",
        id="any-of",
    ),
]


@pytest.mark.parametrize(("condition", "met_by", "refused", "reason"), CONDITIONS)
def test_condition(condition, met_by, refused, reason):
    assert condition.refusal(Capability.parse(met_by)) is None
    assert condition.refusal(Capability.parse(refused)) == reason


def test_family_is_the_check_that_vllm_0_15_0_made():
    assert SM120.number // 10 == SM120.family == 12 != 10
    assert not Family("sm_100").accepts(SM120) and AtLeast("sm_100").accepts(SM120)
