"""NVFP4 weights: error against the known figures, scales at the edges, tensor scales."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.pack import unpack_nibbles
from fp4moe.quantize import dequantize, quantize_weight

METHODS = ["absmax", "four_six", "search"]
SMALLEST_NORMAL = 2.0**-126


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_rms(w: torch.Tensor, **kwargs) -> float:
    error = dequantize(quantize_weight(w, "nvfp4", **kwargs)).double() - w.double()
    return float((error.square().sum() / w.double().square().sum()).sqrt())


def block_errors(w: torch.Tensor, method: str) -> torch.Tensor:
    error = dequantize(quantize_weight(w, "nvfp4", method)).double() - w.double()
    return error.unflatten(-1, (-1, 16)).square().sum(-1)


# A million weights: the relative standard error of an RMS is about 1 / sqrt(2 * 1e6) = .0007, which is .00007
# here; .0003 is four of them. The figures are those of a unit Gaussian.
@pytest.mark.parametrize(("method", "expected"), [("absmax", 0.0951), ("four_six", 0.0869), ("search", 0.0812)])
def test_relative_rms_of_gaussian_weights(method, expected):
    assert relative_rms(gaussian(1024, 1024), method=method) == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize("method", ["four_six", "search"])
@pytest.mark.parametrize("scale", [pytest.param(s, id=f"times-{s:g}") for s in (1.0, 1e-3, 1e4)])
def test_no_block_is_worse_than_absmax(method, scale):
    w = gaussian(64, 1024, seed=1)
    w[::7] *= torch.logspace(-6, 3, 1024)  # from underflowing blocks to those that decide the tensor scale
    w = w * scale
    # The methods compare errors in float32, here taken in float64 after the tensor scale: 16 * 2^-23 apart.
    assert (block_errors(w, method) <= block_errors(w, "absmax") * (1 + 2**-18)).all()


@pytest.mark.parametrize("method", METHODS)
def test_dequantized_values_follow_from_the_stored_bytes(method):
    q = quantize_weight(gaussian(8, 64), "nvfp4", method)
    codes = unpack_nibbles(q.codes).numpy().view(np.uint8)
    values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(8, 4, 16)
    scales = q.scales.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    expected = (values * scales[..., None]).reshape(8, 64) * q.tensor_scale.numpy()
    np.testing.assert_array_equal(dequantize(q).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float_dtypes_of_the_same_values_give_the_same_bytes(dtype):
    w = gaussian(4, 32).to(torch.bfloat16).to(torch.float16)  # exact in all three
    q, reference = quantize_weight(w.to(dtype), "nvfp4"), quantize_weight(w.float(), "nvfp4")
    assert torch.equal(q.codes, reference.codes) and torch.equal(q.scales.float(), reference.scales.float())


def test_tensor_scale_is_amax_over_2688_of_each_matrix():
    w = gaussian(3, 8, 32)
    q = quantize_weight(w, "nvfp4")
    expected = w.abs().amax((1, 2)) / 2688
    assert torch.allclose(q.tensor_scale, expected, rtol=2**-22)  # chosen within one unit in the last place


def test_reciprocal_of_the_tensor_scale_comes_back_for_every_mantissa():
    from fp4moe.quantize.nvfp4 import tensor_scale_of

    amax = torch.arange(2**23, 2**24, dtype=torch.int32).float()
    scale = tensor_scale_of(amax)
    assert torch.equal(scale.reciprocal().reciprocal(), scale)
    assert ((scale.double() / (amax.double() / 2688) - 1).abs() < 2.0**-22).all()


def test_gate_and_up_stacked_share_the_tensor_scale():
    gate, up = gaussian(8, 32), 5 * gaussian(8, 32, seed=1)
    q = quantize_weight(torch.stack([torch.cat([gate, up])]), "nvfp4")
    assert q.tensor_scale.shape == (1,)
    alone = quantize_weight(up, "nvfp4")
    assert q.tensor_scale[0] == alone.tensor_scale


def test_given_tensor_scale_is_used():
    q = quantize_weight(gaussian(2, 4, 32), "nvfp4", tensor_scale=torch.tensor([0.5, 0.25]))
    assert q.tensor_scale.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("method", METHODS)
def test_tensor_of_zeros(method):
    q = quantize_weight(torch.zeros(4, 32), "nvfp4", method)
    assert q.tensor_scale == 1 and (q.scales.float() == 1).all() and (q.codes == 0).all()
    assert (dequantize(q) == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_block_of_zeros_beside_others(method):
    w = gaussian(4, 32)
    w[:, :16] = 0
    q = quantize_weight(w, "nvfp4", method)
    assert (q.scales.float()[:, 0] == 1).all() and (dequantize(q)[:, :16] == 0).all()
    assert (dequantize(q)[:, 16:] != 0).any()


@pytest.mark.parametrize("method", METHODS)
def test_negative_zero_keeps_its_sign_and_is_zero(method):
    q = quantize_weight(torch.full((1, 16), -0.0), "nvfp4", method)
    assert (unpack_nibbles(q.codes) == 8).all()
    assert (dequantize(q) == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_scale_under_the_smallest_is_held_there(method):
    w = torch.full((1, 32), 2688.0)
    w[0, 16:] = torch.linspace(0, 2.0**-8, 16)  # amax / 6 is under 2^-10
    q = quantize_weight(w, "nvfp4", method, tensor_scale=1.0)
    assert q.scales.float()[0, 1] == 2.0**-9
    assert (dequantize(q)[0, 16:] - w[0, 16:]).abs().max() <= 2.0**-11  # half of the smallest step
    assert dequantize(q)[0, 0] == 2688


@pytest.mark.parametrize("method", METHODS)
def test_scale_over_the_largest_is_held_there_and_clips(method):
    q = quantize_weight(torch.full((1, 16), -10000.0), "nvfp4", method, tensor_scale=1.0)
    assert q.scales.float() == 448 and (dequantize(q) == -2688).all()


@pytest.mark.parametrize("method", METHODS)
def test_hopelessly_small_given_tensor_scale_clips_without_nan(method):
    q = quantize_weight(torch.tensor([[1e38] + [1e-3] * 15]), "nvfp4", method, tensor_scale=1e-36)
    assert q.scales.float() == 448 and dequantize(q).isfinite().all()


def test_one_outlier_in_a_block():
    w = torch.full((1, 16), 0.01)
    w[0, 5] = 6.0
    for method in METHODS:
        restored = dequantize(quantize_weight(w, "nvfp4", method))
        assert restored[0, 5] == pytest.approx(6.0, rel=0.04)  # E4M3 rounds the scale by at most 1/16, search by less
        assert (restored[0, :5] == 0).all()  # a quarter of the scale is already 0.25


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "amax",
    [
        pytest.param(2.0**-149, id="smallest-subnormal"),
        pytest.param(2.0**-130, id="subnormal"),
        pytest.param(2.0**-126, id="smallest-normal"),
        pytest.param(2.0**-117, id="tensor-scale-would-be-subnormal"),
        pytest.param(2.0**-100, id="small"),
        pytest.param(3.4e38, id="largest"),
    ],
)
def test_extreme_magnitudes_stay_finite_and_as_near_as_the_scales_allow(method, amax):
    w = gaussian(2, 32).double()
    w = (w / w.abs().max() * amax).float()
    q = quantize_weight(w, "nvfp4", method)
    assert q.tensor_scale >= SMALLEST_NORMAL and (q.scales.float() > 0).all()
    # Half of the widest step is one scale (absmax rounds it by 1/16, four_six takes amax / 4).
    floor = SMALLEST_NORMAL * 2.0**-9
    block_scale = (w.double().abs().amax() / 4 * (1 + 2**-4)).clamp(min=floor)
    assert ((dequantize(q).double() - w.double()).abs() <= block_scale * 1.5).all()


def test_bf16_subnormals_in_a_usual_tensor_become_zero():
    w = torch.cat([gaussian(1, 16), torch.full((1, 16), 1e-40)], dim=-1).to(torch.bfloat16)
    assert (dequantize(quantize_weight(w, "nvfp4"))[0, 16:] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_named_with_tensor_and_place(bad):
    w = gaussian(2, 4, 32)
    w[1, 2, 3] = bad
    with pytest.raises(FormatError, match=rf"experts\.0\.w1: weights must be finite \(got {bad} at \[1, 2, 3\], 1 such"):
        quantize_weight(w, "nvfp4", name="experts.0.w1")


@pytest.mark.parametrize(
    ("w", "kwargs", "message"),
    [
        pytest.param(torch.ones(2, 24), {}, "w2: K must be a positive multiple of 16 for nvfp4 .*K = 24", id="K"),
        pytest.param(torch.ones(2, 0), {}, "w2: K must be a positive multiple of 16", id="empty-K"),
        pytest.param(torch.ones(32), {}, r"w2: must be floating point .*\(32,\)", id="vector"),
        pytest.param(torch.ones(2, 32, dtype=torch.int32), {}, "w2: must be floating point", id="integers"),
        pytest.param(torch.ones(2, 32), {"method": "best"}, "one of absmax, four_six, search .got 'best'", id="method"),
        pytest.param(torch.ones(2, 32), {"tensor_scale": 0.0}, "tensor_scale must be positive", id="zero-scale"),
        pytest.param(torch.ones(2, 32), {"tensor_scale": math.nan}, "tensor_scale must be positive", id="nan-scale"),
    ],
)
def test_bad_input_is_refused_by_name(w, kwargs, message):
    with pytest.raises(FormatError, match=message):
        quantize_weight(w, "nvfp4", **kwargs, name="w2")


def test_five_million_weights_are_searched_in_time():
    import time

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        w = gaussian(5000, 1024)
        started = time.process_time()  # of this process, so that a busy machine does not fail it
        quantize_weight(w, "nvfp4", "search")
        assert time.process_time() - started < 10
    finally:
        torch.set_num_threads(threads)
