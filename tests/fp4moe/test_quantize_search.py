"""The bounds that spare the search most scales never cost it the best one."""

import pytest
import torch

from fp4moe.formats import decode_table
from fp4moe.quantize import mxfp4, nvfp4
from fp4moe.quantize.search import block_error


def random_blocks(num_blocks: int, width: int, kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(num_blocks, width, generator=generator)
    if kind == "spread":  # magnitudes over eight octaves inside a block
        x = x.sign() * torch.exp2(torch.rand(num_blocks, width, generator=generator) * 8 - 8)
    elif kind == "grid":  # values on a coarse grid: many exact ties between scales
        x = torch.randint(-12, 13, (num_blocks, width), generator=generator) / 2
    elif kind == "outlier":
        x[:, 3] = 40 * x[:, 3].abs() + 1
    elif kind == "equal":
        x = x[:, :1].expand_as(x).clone()
    return x


KINDS = ["normal", "spread", "grid", "outlier", "equal"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "amax",
    [
        pytest.param(2688.0, id="the-largest-block"),
        pytest.param(300.0, id="a-usual-block"),
        pytest.param(1.0, id="a-small-block"),
        pytest.param(0.12, id="scales-become-subnormal"),
        pytest.param(0.03, id="scales-are-multiples-of-the-smallest"),
        pytest.param(0.004, id="scale-under-the-smallest"),
        pytest.param(20000.0, id="scale-over-the-largest"),
    ],
)
def test_nvfp4_never_loses_against_all_126_scales(kind, amax):
    blocks = random_blocks(800, 16, kind).abs()
    blocks = blocks * (amax / blocks.amax(-1, keepdim=True).clamp(min=1e-30))
    found = nvfp4._METHODS["search"](blocks, blocks.amax(-1))
    every = torch.stack([block_error(blocks, s.expand(len(blocks))) for s in decode_table("e4m3")[1:127]])
    best = every.amin(0)
    # Ties between scales may be broken by float32 rounding of 16 squares: 16 * 2^-24 of the error.
    assert (block_error(blocks, found) <= best * (1 + 2**-20)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [pytest.param(e, id=f"amax-near-2^{e}") for e in (-140, -126, -122, 0, 90, 127)])
def test_mxfp4_never_loses_against_any_exponent(kind, exponent):
    blocks = random_blocks(300, 32, kind)
    blocks = (blocks / blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) * 1.9).double() * 2.0**exponent
    blocks = blocks.float()
    codes, scales = mxfp4.quantize_rows(blocks, "search")
    values = decode_table("e2m1").double()[codes.int()] * torch.exp2(scales.double() - 127)
    found = (values - blocks.double()).square().sum(-1)
    best = torch.full_like(found, torch.inf)
    for scale in torch.exp2(torch.arange(-127, 126).double()):  # 6 * 2^126 is no float32
        rounded = decode_table("e2m1").double()[nearest_code(blocks.double().abs() / scale)] * scale
        best = torch.minimum(best, (rounded - blocks.double().abs()).square().sum(-1))
    assert (found <= best * (1 + 2**-19)).all()  # 32 squares in float32: 32 * 2^-24


def nearest_code(magnitude: torch.Tensor) -> torch.Tensor:
    middles = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=torch.float64)
    return torch.searchsorted(middles, magnitude)


def test_few_scales_are_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(
        "fp4moe.quantize.search.block_error",
        lambda blocks, scale: tried.append(len(blocks)) or block_error(blocks, scale),
    )
    blocks = random_blocks(2000, 16, "normal").abs() * 100
    nvfp4._METHODS["search"](blocks, blocks.amax(-1))
    assert sum(tried) / 2000 < 14  # of 126
