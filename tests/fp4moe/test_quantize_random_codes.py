"""Random quantized weights: valid in every format, unit variance over K, the same for a seed."""

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import decode_table
from fp4moe.quantize import dequantize
from fp4moe.quantize.random_codes import CODE_RMS, FORMATS, random_quantized

SHAPE = (3, 64, 256)


@pytest.mark.parametrize("format", FORMATS)
def test_weights_keep_unit_variance_over_k(format):
    w = dequantize(random_quantized(format, SHAPE, seed=1, device="cpu"))
    assert w.isfinite().all()
    # MXFP4's scales are powers of two and three neighbors of them, so its size is right within a factor of two only.
    low, high = (0.5, 2.0) if format == "mxfp4" else (0.9, 1.2)
    assert low < float(w.square().mean() * SHAPE[-1]) ** 0.5 < high


@pytest.mark.parametrize("format", FORMATS)
def test_a_seed_gives_the_same_weights(format):
    first, again, other = (random_quantized(format, SHAPE, seed=seed, device="cpu") for seed in (1, 1, 2))
    assert torch.equal(dequantize(first), dequantize(again)) and not torch.equal(dequantize(first), dequantize(other))


def test_every_code_occurs_and_every_expert_has_its_own_tensor_scale():
    q = random_quantized("nvfp4", SHAPE, seed=1, device="cpu")
    assert len(q.codes.unique()) == 256 and len(q.tensor_scale.unique()) == SHAPE[0]
    mantissas, _ = torch.frexp(q.tensor_scale)
    assert (mantissas != 0.5).all()  # no power of two: a kernel that loses the factor shows


def test_the_root_mean_square_of_uniform_codes_is_that_of_the_table():
    assert float(decode_table("e2m1").square().mean().sqrt()) == pytest.approx(CODE_RMS, abs=1e-3)


def test_a_format_without_random_form_is_refused():
    with pytest.raises(FormatError, match="bf16, fp8, nvfp4, mxfp4.*'int4'"):
        random_quantized("int4", SHAPE, seed=0, device="cpu")
    with pytest.raises(FormatError, match="multiple of 16"):
        random_quantized("nvfp4", (1, 4, 20), seed=0, device="cpu")
