"""The decoder's kernels compile for every capability without a stack, fit its memory, overlap where they can, use tensor cores.

By default the two that multiply on an old and on a new GPU; all of them everywhere under `-m slow`.
"""

import pytest

pytest.importorskip("triton")

from fp4moe.select import Capability
from fp4moe.triton import aot

KEYS = tuple(key for key in aot.keys("sm_90") if key.startswith("decoder/"))
ON_TENSOR_CORES = ("decoder/thin_linear/16/bf16", "decoder/slot_attention/64")
FIRST_WITH_OVERLAP = 90


def check(key: str, capability: str) -> None:
    compiled = aot.compile_for(key, capability)
    device, resources, ptx = Capability.parse(capability), aot.resources(compiled), compiled.asm["ptx"]
    assert resources.stack_bytes == 0
    assert 0 <= resources.shared_bytes <= device.shared_memory_bytes
    # Both halves: the next kernel may start, and this one waits for the one before.
    has_overlap = device.number >= FIRST_WITH_OVERLAP
    assert ("griddepcontrol.launch_dependents" in ptx) == ("griddepcontrol.wait" in ptx) == has_overlap
    # A 16 row tile is below wgmma's and tcgen05's 64, so every capability takes mma.sync or its own form.
    takes_tensor_cores = "thin_linear/1/" not in key and ("thin_linear" in key or "slot_attention" in key)
    assert any(name in ptx for name in ("mma.sync", "wgmma.mma_async", "tcgen05.mma")) == takes_tensor_cores


def test_every_kernel_of_the_decoder_is_there():
    assert {key.split("/")[1] for key in KEYS} == {
        "norm_route", "thin_linear", "slot_attention", "rotary_store", "next_token",
    }  # fmt: skip
    for capability in aot.CAPABILITIES:
        assert set(KEYS) <= set(aot.keys(capability))


@pytest.mark.parametrize("capability", ["sm_80", "sm_90"])
@pytest.mark.parametrize("key", ON_TENSOR_CORES)
def test_kernels_that_multiply_use_tensor_cores_and_overlap_from_sm_90_on(key, capability):
    check(key, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", aot.CAPABILITIES)
def test_every_kernel_everywhere(capability):
    for key in KEYS:
        check(key, capability)
