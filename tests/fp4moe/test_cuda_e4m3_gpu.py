"""The FP8 kernel's Python side on a CPU: what it refuses, what it holds; on a GPU of sm_90, the whole check."""

import json
import subprocess
import sys

import pytest
import torch

from fp4moe.cuda import e4m3
from fp4moe.cuda.check_e4m3 import rounded_rows
from fp4moe.errors import FormatError, SelectionError
from fp4moe.quantize import quantize_weight
from fp4moe.quantize.random_codes import random_quantized
from fp4moe.reference import route

HAS_HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9
BITS = {"nvfp4": 4.5, "mxfp4": 4.25, "fp8": 8}


def packed_layer(name: str) -> e4m3.E4m3Experts:
    generator = torch.Generator().manual_seed(0)
    gate_up = quantize_weight(torch.randn(4, 256, 128, generator=generator), name)
    return e4m3.pack(gate_up, quantize_weight(torch.randn(4, 128, 128, generator=generator), name))


def test_a_tensor_on_the_cpu_is_refused_before_any_build():
    with pytest.raises(SelectionError, match="needs a CUDA device"):
        e4m3.experts(torch.randn(3, 128), packed_layer("nvfp4"), route(torch.randn(3, 4), 2), "fp8")


def test_other_activations_are_refused():
    with pytest.raises(SelectionError, match="takes activations in fp8"):
        e4m3.experts(torch.randn(3, 128), packed_layer("nvfp4"), route(torch.randn(3, 4), 2), "bf16")


@pytest.mark.parametrize("name", BITS)
def test_packed_weights_take_the_bytes_of_the_format_and_a_scale_a_row(name):
    packed = packed_layer(name)
    assert packed.gate_up.numel() + packed.down.numel() == 4 * (256 * 128 + 128 * 128) * BITS[name] / 8
    assert packed.gate_up_scale.shape == (4, 256) and packed.down_scale.shape == (4, 128)
    assert packed.layout == "e4m3" and set(packed.tensors()) == {"gate_up", "down", "gate_up_scale", "down_scale"}


def test_a_row_too_long_to_round_at_once_is_refused():
    wide = random_quantized("mxfp4", (1, 128, 32768 + 128), seed=0, device="cpu")
    with pytest.raises(FormatError, match="K at most 32768"):
        e4m3.pack(wide, wide)


@pytest.mark.parametrize(
    ("tokens", "top_k", "experts", "tile"),
    [
        pytest.param(1, 2, 8, 64, id="decode"),
        pytest.param(64, 2, 2, 64, id="no-expert-can-have-more"),
        pytest.param(65, 2, 2, 256, id="all-on-few-experts"),
        pytest.param(128, 2, 8, 64, id="32-slots-an-expert"),
        pytest.param(129, 2, 8, 256, id="more"),
        pytest.param(4096, 2, 8, 256, id="prefill"),
    ],
)
def test_few_slots_an_expert_take_narrow_tiles(tokens, top_k, experts, tile):
    assert e4m3.tile_for(tokens, top_k, experts) == tile


def test_rounded_rows_are_read_back_from_where_the_kernel_writes_them():
    """place_of() of e4m3_prepare.cuh, followed byte by byte."""
    positions, k = 32, 256
    rows = torch.randint(0, 127, (positions, k), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    stored = torch.zeros(positions * k, dtype=torch.uint8)
    for position in range(positions):
        for chunk in range(k // 128):
            for place in range(8):
                to = (chunk * (positions // 8) + position // 8) * 1024 + position % 8 * 128 + ((place ^ position) & 7) * 16
                for t in range(4):
                    first = chunk * 128 + 32 * t + 4 * place
                    stored[to + 4 * t : to + 4 * t + 4] = rows[position, first : first + 4]
    wanted = torch.tensor([0, 1, 9, 16, 31])
    assert torch.equal(rounded_rows(stored.view(positions, k), wanted, k).view(torch.uint8), rows[wanted])


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_HOPPER, reason="needs a GPU of sm_90")
def test_every_format_shape_stage_and_tile_on_this_gpu():
    done = subprocess.run([sys.executable, "-m", "fp4moe.cuda.check", "--only", "e4m3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == 0
