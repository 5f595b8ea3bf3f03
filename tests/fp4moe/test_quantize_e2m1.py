"""The fast E2M1 rounding equals the definition in formats.py."""

import torch

from fp4moe.formats import decode_table, encode
from fp4moe.quantize.e2m1 import encode_e2m1, round_magnitude


def every_third_float_below(limit: float) -> torch.Tensor:
    """Positive float32 numbers, subnormals included, by their bits; a stride that all mantissas meet."""
    last = torch.tensor(limit).view(torch.int32).item()
    return torch.arange(0, last, 3 * 2**9 + 1, dtype=torch.int32).view(torch.float32)


def test_codes_and_values_equal_the_definition_over_the_whole_range():
    table = decode_table("e2m1").double()
    ties = (table[1:8] + table[:7]).float() / 2
    around = [torch.nextafter(ties, torch.full_like(ties, end)) for end in (0.0, torch.inf)]
    x = torch.cat([every_third_float_below(torch.inf), ties, *around, torch.tensor([0.0, 6.0, 1e38])])
    x = torch.cat([x, -x])
    codes = encode(x, "e2m1")
    assert torch.equal(encode_e2m1(x), codes)
    assert torch.equal(round_magnitude(x.abs()), decode_table("e2m1")[codes.int() & 7])


def test_inf_saturates_as_the_definition_says():
    assert encode_e2m1(torch.tensor([torch.inf, -torch.inf])).tolist() == [7, 15]
