"""Activations: rounded token by token, in the layout of a weight."""

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import ACTIVATION_FORMATS
from fp4moe.quantize import dequantize, quantize_activation, quantize_weight, round_activation

QUANTIZED = ["fp8", "nvfp4", "mxfp4"]


def activations(*shape: int) -> torch.Tensor:
    """Gaussian, tokens of very different size, as hidden states are."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x * torch.logspace(-3, 3, shape[-2]).unsqueeze(-1)


@pytest.mark.parametrize("format", ACTIVATION_FORMATS)
def test_rounding_is_storing_and_reading_back(format):
    x = activations(5, 64)
    rounded = round_activation(x, format)
    assert rounded.dtype == torch.float32 and rounded.shape == x.shape
    expected = x if format == "fp32" else dequantize(quantize_activation(x, format))
    assert torch.equal(rounded, expected)


@pytest.mark.parametrize("format", ACTIVATION_FORMATS)
def test_a_token_does_not_depend_on_its_batch(format):
    x = activations(7, 64)
    batch = round_activation(x, format)
    for token in range(7):
        assert torch.equal(round_activation(x[token : token + 1], format)[0], batch[token])


def test_nvfp4_has_a_second_level_scale_a_token():
    x = activations(6, 64)
    q = quantize_activation(x, "nvfp4")
    assert q.tensor_scale.shape == (6,) and q.has_row_tensor_scales
    assert torch.allclose(q.tensor_scale, x.abs().amax(-1) / 2688, rtol=2**-22)
    for token in range(6):
        alone = quantize_weight(x[token : token + 1], "nvfp4", "absmax")
        assert torch.equal(dequantize(alone)[0], dequantize(q)[token])


def test_fp8_equals_ml_dtypes_by_token():
    x = activations(6, 64)
    scale = (x.abs().amax(-1, keepdim=True) / 448).numpy()
    expected = (x.numpy() / scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_array_equal(round_activation(x, "fp8").numpy(), expected)


def test_mxfp4_is_the_ocp_quantizer():
    x = activations(6, 64)
    assert torch.equal(round_activation(x, "mxfp4"), dequantize(quantize_weight(x, "mxfp4", "absmax")))


# Gaussian figures at 300 thousand values; fp8 keeps 4 significant bits.
@pytest.mark.parametrize(("format", "expected"), [("bf16", 0.0017), ("fp8", 0.0264), ("nvfp4", 0.0951), ("mxfp4", 0.115)])
def test_relative_rms_of_gaussian_activations(format, expected):
    x = torch.randn(300, 1024, generator=torch.Generator().manual_seed(0))
    error = round_activation(x, format) - x
    assert float((error.square().sum() / x.square().sum()).sqrt()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("format", ACTIVATION_FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_and_leading_axes(format, dtype):
    x = torch.zeros(2, 3, 64, dtype=dtype)
    assert torch.equal(round_activation(x, format), torch.zeros(2, 3, 64))


@pytest.mark.parametrize("format", ACTIVATION_FORMATS)
def test_no_tokens(format):
    assert round_activation(torch.zeros(0, 64), format).shape == (0, 64)


@pytest.mark.parametrize("format", QUANTIZED)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_inf_are_refused_where_a_code_would_hide_them(format, bad):
    x = torch.ones(2, 64)
    x[1, 3] = bad
    with pytest.raises(FormatError, match=f"activation: must be finite for {format}"):
        round_activation(x, format)


@pytest.mark.parametrize("format", ["fp32", "bf16"])
def test_nan_passes_where_nothing_hides_it(format):
    assert round_activation(torch.tensor([[torch.nan, 1.0]]), format).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("x", "format", "message"),
    [
        pytest.param(torch.ones(2, 24), "nvfp4", "activation: K must be a positive multiple of 16", id="nvfp4-K"),
        pytest.param(torch.ones(2, 48), "mxfp4", "activation: K must be a positive multiple of 32", id="mxfp4-K"),
        pytest.param(torch.ones(2, 48), "int8", "activation format 'int8': unknown", id="format"),
    ],
)
def test_bad_activations_are_refused(x, format, message):
    with pytest.raises(FormatError, match=message):
        round_activation(x, format)


def test_fp32_has_no_storage():
    with pytest.raises(FormatError, match="fp32 is not stored; use round_activation"):
        quantize_activation(torch.ones(2, 16), "fp32")
