"""The device quantizer is the definition in quantize/activations.py, bit for bit; run by Triton's interpreter."""

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import decode_table
from fp4moe.quantize import quantize_activation
from fp4moe.triton.w4a4_quantize import LARGEST_CHUNK, quantize_rows
from w4a4_interpreted import interpreted

FORMATS = ["nvfp4", "mxfp4"]


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def around(values: torch.Tensor) -> torch.Tensor:
    """The numbers, and the float32 next below and above each."""
    return torch.cat([values, values.nextafter(torch.tensor(-torch.inf)), values.nextafter(torch.tensor(torch.inf))])


def middles(element: str, first: int, last: int) -> torch.Tensor:
    """Numbers halfway between neighboring codes: the ties."""
    values = decode_table(element)[first : last + 1]
    return (values[1:] + values[:-1]) / 2


def ties_of_codes() -> torch.Tensor:
    """[1, K]: tensor scale 1 (amax 2688) and, behind the first 32 values, blocks that hold 6, hence scale 1, and all ties."""
    ties = around(middles("e2m1", 0, 7))
    ties = torch.cat([ties, -ties])
    blocks = torch.full((4, 16), 6.0)
    blocks[:, 1:] = torch.nn.functional.pad(ties, (0, 60 - len(ties))).view(4, 15)
    return torch.cat([torch.full((32,), 2688.0), blocks.flatten()]).unsqueeze(0)


def ties_of_scales() -> torch.Tensor:
    """[1, K]: tensor scale 1; the largest value of a block is 6 times a number halfway between E4M3 scales, or beside it."""
    largest = around(middles("e4m3", 1, 126)) * 6
    blocks = torch.zeros(len(largest) + 1, 16)
    blocks[0, 0], blocks[1:, 5] = 2688.0, largest
    return torch.nn.functional.pad(blocks, (0, 0, 0, len(blocks) % 2)).reshape(1, -1)


def ties_under_every_scale() -> torch.Tensor:
    """[1, K]: tensor scale 1; for each of the 126 E4M3 scales two blocks that hold 6 scales, hence that scale, and all ties."""
    ties = torch.nn.functional.pad(middles("e2m1", 0, 7), (0, 8))[:8]
    blocks = torch.zeros(254, 16)
    blocks[0, 0] = 2688.0
    for i, scale in enumerate(decode_table("e4m3")[1:127]):
        near = around(ties * scale)
        blocks[2 + 2 * i : 4 + 2 * i, 0] = 6 * scale
        blocks[2 + 2 * i : 4 + 2 * i, 1:13] = near.view(2, 12)
    return blocks.reshape(1, -1)


def edge_rows() -> torch.Tensor:
    """Zeros, minus zeros, a block of zeros, FP32's smallest and largest numbers, subnormal rows."""
    x = gaussian(7, 64)
    x[0], x[1], x[2, 16:48] = 0.0, -0.0, 0.0
    x[3] *= 2.0**-140
    x[4] = torch.tensor(2.0**-149)
    x[5] = x[5] / x[5].abs().max() * torch.finfo(torch.float32).max
    x[6] = x[6] * torch.logspace(-45, 0, 64)
    return x


CASES = {
    "tokens-of-very-different-size": gaussian(6, 128) * torch.logspace(-3, 3, 6).unsqueeze(-1),
    "bfloat16": gaussian(5, 64).to(torch.bfloat16),
    "bfloat16-ties-are-common": (gaussian(8, 256) * 4).round().to(torch.bfloat16) / 4,
    "ties-of-e2m1": ties_of_codes(),
    "ties-of-e4m3": ties_of_scales(),
    "ties-of-e2m1-under-every-scale": ties_under_every_scale(),
    "every-exponent": gaussian(64, 64) * torch.exp2(torch.linspace(-126, 120, 64)).unsqueeze(-1),
    "exponents-mixed-in-a-row": gaussian(4, 512) * torch.exp2(torch.linspace(-60, 60, 512)),
    "edges": edge_rows(),
    "row-longer-than-a-chunk": gaussian(1, LARGEST_CHUNK + 96),
    "no-rows": torch.zeros(0, 64),
}


def not_finite() -> torch.Tensor:
    x = gaussian(4, 64)
    x[1, 7], x[3, 60] = torch.nan, -torch.inf
    return x


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(format, case) -> QuantizedRows, from one interpreting process."""
    keys = [(format, case) for format in FORMATS for case in [*CASES, "not-finite"]]
    calls = [
        ("fp4moe.triton.w4a4_quantize", "quantize_rows", (CASES[case] if case in CASES else not_finite(), format), {})
        for format, case in keys
    ]
    return dict(zip(keys, interpreted(calls, tmp_path_factory.mktemp("quantize")), strict=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_bits_are_those_of_the_definition(found, format, case):
    rows, right = found[format, case], quantize_activation(CASES[case], format)
    assert torch.equal(rows.codes, right.codes)
    assert torch.equal(rows.scales, right.scales.view(torch.uint8))
    expected = torch.ones(len(rows.codes)) if right.tensor_scale is None else right.tensor_scale
    assert torch.equal(rows.row_scale, expected)


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_with_nan_or_inf_is_nan_and_no_other_row_changes(found, format):
    rows, x = found[format, "not-finite"], not_finite()
    assert rows.row_scale.isnan().tolist() == [False, True, False, True]
    assert (rows.codes[[1, 3]] & 0x77 == 0).all()
    right = quantize_activation(x[[0, 2]], format)
    assert torch.equal(rows.codes[[0, 2]], right.codes)


@pytest.mark.parametrize(("format", "columns"), [("nvfp4", 24), ("mxfp4", 48)])
def test_a_row_that_blocks_do_not_divide_is_refused(format, columns):
    with pytest.raises(FormatError, match="activation: K must be a positive multiple of"):
        quantize_rows(torch.ones(1, columns), format)
