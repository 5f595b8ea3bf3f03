"""MXFP4 weights: error against the known figures, exponents at the edges."""

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.pack import unpack_nibbles
from fp4moe.quantize import dequantize, quantize_weight, scale_values


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# A million unit-variance weights; see test_quantize_nvfp4 for the tolerance.
@pytest.mark.parametrize(("method", "expected"), [("absmax", 0.1150), ("search", 0.1116)])
def test_relative_rms_of_gaussian_weights(method, expected):
    w = gaussian(1024, 1024)
    error = dequantize(quantize_weight(w, "mxfp4", method)) - w
    assert float((error.square().sum() / w.square().sum()).sqrt()) == pytest.approx(expected, abs=3e-4)


def test_no_block_is_worse_than_absmax():
    w = gaussian(256, 1024) * torch.logspace(-8, 8, 1024)
    errors = [
        (dequantize(quantize_weight(w, "mxfp4", method)).double() - w.double()).unflatten(-1, (-1, 32)).square().sum(-1)
        for method in ("search", "absmax")
    ]
    assert (errors[0] <= errors[1] * (1 + 2**-18)).all()


def test_absmax_exponent_is_that_of_the_ocp_specification():
    amax = torch.tensor([1.0, 1.99, 4.0, 6.0, 7.99, 8.0, 0.3, 448.0])
    w = torch.zeros(8, 32)
    w[:, 7] = -amax
    scale = scale_values(quantize_weight(w, "mxfp4", "absmax")).flatten()
    assert torch.equal(scale, torch.exp2(torch.floor(torch.log2(amax)) - 2))


@pytest.mark.parametrize("method", ["absmax", "search"])
def test_dequantized_values_follow_from_the_stored_bytes(method):
    q = quantize_weight(gaussian(8, 64), "mxfp4", method)
    values = unpack_nibbles(q.codes).numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(8, 2, 32)
    scales = q.scales.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    np.testing.assert_array_equal(dequantize(q).numpy(), (values * scales[..., None]).reshape(8, 64))


@pytest.mark.parametrize("method", ["absmax", "search"])
def test_block_of_zeros_has_scale_one(method):
    q = quantize_weight(torch.zeros(2, 64), "mxfp4", method)
    assert (q.scales == 127).all() and (q.codes == 0).all() and (dequantize(q) == 0).all()


@pytest.mark.parametrize("method", ["absmax", "search"])
@pytest.mark.parametrize(
    ("amax", "smallest", "largest"),
    [
        pytest.param(2.0**-149, 0, 0, id="smallest-subnormal"),
        pytest.param(2.0**-130, 0, 0, id="exponent-clamped"),
        pytest.param(2.0**-125, 0, 1, id="first-unclamped"),
        pytest.param(3.4e38, 252, 253, id="largest"),
    ],
)
def test_exponents_stay_in_range(method, amax, smallest, largest):
    w = gaussian(1, 32).double()
    w = (w / w.abs().max() * amax).float()
    q = quantize_weight(w, "mxfp4", method)
    assert smallest <= int(q.scales) <= largest
    restored = dequantize(q)
    assert restored.isfinite().all()
    # absmax clips from 8 to 6 scales at worst; a clamped exponent leaves half the smallest step, 2^-129.
    assert ((restored.double() - w.double()).abs() <= max(amax / 4, 2.0**-129)).all()


def test_exponent_of_the_largest_float_is_not_nan():
    q = quantize_weight(torch.full((1, 32), torch.finfo(torch.float32).max), "mxfp4", "absmax")
    assert int(q.scales) == 127 + 127 - 2


def test_one_outlier_takes_the_scale():
    w = torch.full((1, 32), 0.01)
    w[0, 0] = 6.0
    for method in ("absmax", "search"):
        restored = dequantize(quantize_weight(w, "mxfp4", method))
        assert restored[0, 0] == 6 and (restored[0, 1:] == 0).all()


def test_K_must_be_a_multiple_of_32():
    with pytest.raises(FormatError, match="multiple of 32 for mxfp4 .*K = 48"):
        quantize_weight(torch.ones(2, 48), "mxfp4")


def test_a_tensor_scale_is_refused():
    with pytest.raises(FormatError, match="mxfp4 has no tensor scale"):
        quantize_weight(torch.ones(2, 32), "mxfp4", tensor_scale=1.0)
