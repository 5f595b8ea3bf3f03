"""The Hopper kernel on a GPU, and what it says where it cannot run."""

import json
import subprocess
import sys

import pytest
import torch

from fp4moe.cuda import check, fragments
from fp4moe.errors import SelectionError
from fp4moe.quantize import quantize_weight
from fp4moe.reference import route

HAS_HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def packed_layer() -> fragments.FragmentExperts:
    generator = torch.Generator().manual_seed(0)
    gate_up = quantize_weight(torch.randn(4, 256, 128, generator=generator), "nvfp4")
    return fragments.pack(gate_up, quantize_weight(torch.randn(4, 128, 128, generator=generator), "nvfp4"))


@pytest.mark.skipif(HAS_HOPPER, reason="asks what happens without a Hopper GPU")
def test_without_a_gpu_the_check_fails_with_the_reason():
    with pytest.raises(SystemExit, match="needs a GPU of sm_90 and none was found"):
        check.main()


def test_a_tensor_on_the_cpu_is_refused_before_any_build():
    routing = route(torch.randn(3, 4), 2)
    with pytest.raises(SelectionError, match="needs a CUDA device"):
        fragments.decode(torch.randn(3, 128), packed_layer(), routing, "bf16")


def test_other_activations_are_refused():
    routing = route(torch.randn(3, 4), 2)
    with pytest.raises(SelectionError, match="takes activations in bf16"):
        fragments.grouped(torch.randn(3, 128), packed_layer(), routing, "fp8")


def test_packed_weights_take_the_bytes_of_the_format():
    packed = packed_layer()
    weights = 4 * (256 * 128 + 128 * 128)
    assert packed.gate_up.numel() + packed.down.numel() == weights * 4.5 / 8
    assert packed.layout == "fragments" and set(packed.tensors()) == {"gate_up", "down", "gate_up_scale", "down_scale"}


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_HOPPER, reason="needs a GPU of sm_90")
def test_every_format_shape_and_tile_on_this_gpu():
    done = subprocess.run([sys.executable, "-m", "fp4moe.cuda.check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == 0
