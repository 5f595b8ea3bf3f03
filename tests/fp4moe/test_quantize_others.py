"""FP8, BF16, INT4 and ternary weights, and what all formats have in common."""

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.pack import unpack
from fp4moe.quantize import dequantize, quantize_weight

ALL = [(name, method) for name, fmt in WEIGHT_FORMATS.items() for method in fmt.methods]


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_rms(w: torch.Tensor, format: str, method: str) -> float:
    error = dequantize(quantize_weight(w, format, method)) - w
    return float((error.square().sum() / w.square().sum()).sqrt())


@pytest.mark.parametrize(("format", "method"), ALL)
def test_what_is_representable_is_kept(format, method):
    """Quantizing the dequantized weight again changes no value by more than the scale's rounding."""
    once = dequantize(quantize_weight(gaussian(8, 128), format, method))
    twice = dequantize(quantize_weight(once, format, method))
    step = {"nvfp4": 2**-3, "int4": 2**-3, "mxfp4": 2**-3}.get(format, 2**-7)
    assert (twice - once).norm() <= step * once.norm()


@pytest.mark.parametrize(("format", "method"), ALL)
def test_zeros_stay_zeros(format, method):
    q = quantize_weight(torch.zeros(2, 128), format, method)
    assert (dequantize(q) == 0).all()
    if q.scales is not None:
        assert q.scales.float().isfinite().all() and (q.scales.float() > 0).all()


@pytest.mark.parametrize(("format", "method"), ALL)
@pytest.mark.parametrize("magnitude", [2.0**-140, 2.0**-120, 1e38])
def test_extreme_magnitudes_stay_finite_and_bounded(format, method, magnitude):
    w = (gaussian(2, 128).clamp(-3, 3).double() * magnitude).float()
    restored = dequantize(quantize_weight(w, format, method))
    assert restored.isfinite().all()
    assert restored.abs().max() <= 1.2 * w.abs().max().clamp(min=2.0**-126)


@pytest.mark.parametrize(("format", "method"), ALL)
def test_chunks_do_not_show(format, method, monkeypatch):
    w = gaussian(3, 10, 128)
    whole = quantize_weight(w, format, method)
    monkeypatch.setattr("fp4moe.quantize.weights._CHUNK_WEIGHTS", {"cpu": 7 * 128})
    chunked = quantize_weight(w, format, method)
    assert torch.equal(dequantize(whole), dequantize(chunked)) and whole.shape == chunked.shape


@pytest.mark.parametrize(("format", "method"), ALL)
def test_experts_are_quantized_each_on_their_own(format, method):
    w = gaussian(3, 10, 128) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1)
    q = quantize_weight(w, format, method)
    for expert in range(3):
        assert torch.equal(dequantize(q[expert]), dequantize(quantize_weight(w[expert], format, method)))


@pytest.mark.parametrize(("format", "method"), ALL)
def test_noncontiguous_input_is_read_by_value(format, method):
    w = gaussian(128, 6).T
    assert torch.equal(
        dequantize(quantize_weight(w, format, method)),
        dequantize(quantize_weight(w.contiguous(), format, method)),
    )


def test_fp8_equals_ml_dtypes_by_row():
    w = gaussian(16, 64) * torch.logspace(-3, 3, 16).unsqueeze(-1)
    q = quantize_weight(w, "fp8")
    scale = (w.abs().amax(-1, keepdim=True) / 448).numpy()
    codes = (w.numpy() / scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(q.codes.view(torch.uint8).numpy(), codes.view(np.uint8))
    np.testing.assert_array_equal(dequantize(q).numpy(), codes.astype(np.float32) * scale)


def test_bf16_is_plain_rounding():
    w = gaussian(4, 64)
    assert torch.equal(dequantize(quantize_weight(w, "bf16")), w.to(torch.bfloat16).float())


@pytest.mark.parametrize("format", ["int4", "ternary"])
def test_search_is_never_worse_than_absmax(format):
    w, block = gaussian(128, 1024), WEIGHT_FORMATS[format].block_k
    errors = [
        (dequantize(quantize_weight(w, format, method)).double() - w.double()).unflatten(-1, (-1, block)).square().sum(-1)
        for method in ("search", "absmax")
    ]
    assert (errors[0] <= errors[1] * (1 + 2**-18)).all() and errors[0].sum() < errors[1].sum()


def test_ternary_search_finds_the_least_squares_scale():
    w = gaussian(64, 64)
    ours = (dequantize(quantize_weight(w, "ternary", "search")) - w).square().sum(-1)
    scales = torch.linspace(0.01, 4, 2000)
    grid = [((w / s).round().clamp(-1, 1) * s - w).square().sum(-1) for s in scales]
    # BF16 rounds the scale by 2^-9, which the error, flat at its minimum, feels squared: 2^-18 of the energy.
    assert (ours <= torch.stack(grid).amin(0) + 2**-12 * w.square().sum(-1)).all()


def test_ternary_codes_use_two_bits():
    q = quantize_weight(gaussian(4, 64), "ternary")
    assert q.codes.shape == (4, 16) and set(unpack(q.codes, 2).unique().tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dequantize_casts_last(dtype):
    q = quantize_weight(gaussian(4, 64), "nvfp4")
    assert torch.equal(dequantize(q, dtype), dequantize(q).to(dtype))


# Fewer bits cost more, at this project's formats on Gaussian weights.
def test_formats_are_ordered_by_error():
    w = gaussian(256, 1024)
    errors = [relative_rms(w, f, WEIGHT_FORMATS[f].default_method) for f in ("bf16", "fp8", "nvfp4", "mxfp4", "ternary")]
    assert errors == sorted(errors)
