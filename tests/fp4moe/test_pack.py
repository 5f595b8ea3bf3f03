"""Packing and unpacking are inverses of each other, low bits first."""

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.pack import pack, pack_nibbles, unpack, unpack_nibbles


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_byte_survives_unpack_and_pack(bits):
    every_byte = torch.arange(256, dtype=torch.uint8).view(16, 16)
    assert torch.equal(pack(unpack(every_byte, bits), bits), every_byte)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((8,), id="vector"),
        pytest.param((3, 64), id="matrix"),
        pytest.param((2, 3, 16), id="experts"),
        pytest.param((0, 16), id="no-rows"),
    ],
)
def test_codes_survive_pack_and_unpack(bits, shape):
    codes = torch.randint(2**bits, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.shape == (*shape[:-1], shape[-1] * bits // 8)
    assert torch.equal(unpack(packed, bits), codes)


def test_low_nibble_comes_first():
    assert pack_nibbles(torch.tensor([0x1, 0xF], dtype=torch.uint8)).tolist() == [0xF1]
    assert unpack_nibbles(torch.tensor([0xF1], dtype=torch.uint8)).tolist() == [0x1, 0xF]


def test_lowest_two_bits_come_first():
    assert pack(torch.tensor([1, 2, 3, 0], dtype=torch.uint8), 2).tolist() == [0b00_11_10_01]


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        pytest.param(torch.zeros(3, dtype=torch.uint8), 4, "2 divides.*got torch.uint8 .3,", id="odd-K"),
        pytest.param(torch.zeros(4, dtype=torch.int32), 4, "got torch.int32", id="not-bytes"),
        pytest.param(torch.full((4,), 16, dtype=torch.uint8), 4, "below 16 .*got 16", id="code-too-large"),
        pytest.param(torch.zeros(4, dtype=torch.uint8), 3, "must be 2, 4 or 8 .got 3", id="bits"),
    ],
)
def test_bad_codes_are_refused(codes, bits, message):
    with pytest.raises(FormatError, match=message):
        pack(codes, bits)


def test_unpack_refuses_other_dtypes():
    with pytest.raises(FormatError, match="must be uint8 .got torch.int8"):
        unpack(torch.zeros(4, dtype=torch.int8), 4)
