"""Every code and a dense grid of values of each element format, against ml_dtypes at zero tolerance."""

import ml_dtypes
import numpy as np
import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import (
    ACTIVATION_FORMATS,
    ELEMENTS,
    WEIGHT_FORMATS,
    activation_format,
    decode_table,
    element_format,
    encode,
    weight_format,
)

NUMPY_TYPES = {
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "bf16": ml_dtypes.bfloat16,
    "int4": ml_dtypes.int4,
}
CODE_TYPES = {4: np.uint8, 8: np.uint8, 16: np.uint16}


def bits_equal(ours: torch.Tensor, theirs: np.ndarray) -> bool:
    """Equal as numbers and in the sign of zero; NaN equals NaN."""
    ours = ours.double().numpy()
    with np.errstate(invalid="ignore"):  # signaling NaN
        theirs = theirs.astype(np.float64)
    same = (ours == theirs) & (np.signbit(ours) == np.signbit(theirs))
    return bool((same | (np.isnan(ours) & np.isnan(theirs))).all())


def independent_codes(x: np.ndarray, name: str) -> np.ndarray:
    codes = x.astype(NUMPY_TYPES[name]).view(CODE_TYPES[ELEMENTS[name].bits])
    return codes & (2 ** ELEMENTS[name].bits - 1)


def dense_grid(name: str) -> torch.Tensor:
    """Every value, every middle between neighbors (the ties), both one float32 away on each side, and
    zero."""
    table = decode_table(name).double()
    values = table[table.isfinite()].unique()
    points = torch.cat([values, (values[1:] + values[:-1]) / 2, torch.linspace(values[0], values[-1], 20001)])
    points = points.float()
    up = torch.nextafter(points, torch.tensor(torch.inf))
    down = torch.nextafter(points, torch.tensor(-torch.inf))
    grid = torch.cat([points, up, down, torch.tensor([0.0, -0.0])])
    return grid[(grid.double() <= values[-1]) & (grid.double() >= values[0])]


@pytest.mark.parametrize("name", NUMPY_TYPES)
def test_every_code_decodes_as_ml_dtypes_does(name):
    codes = np.arange(2 ** ELEMENTS[name].bits, dtype=CODE_TYPES[ELEMENTS[name].bits])
    assert bits_equal(decode_table(name), codes.view(NUMPY_TYPES[name]).astype(np.float32))


@pytest.mark.parametrize("name", ["e2m1", "e4m3", "e8m0", "bf16"])
def test_dense_grid_encodes_as_ml_dtypes_does(name):
    grid = dense_grid(name)
    if name == "e8m0":  # from float32 subnormals ml_dtypes rounds up whatever is over 2^-127; see the next test
        grid = grid[grid >= 2.0**-126]
    assert len(grid) > 20000
    np.testing.assert_array_equal(encode(grid, name).numpy(), independent_codes(grid.numpy(), name))


def test_e8m0_rounds_float32_subnormals_to_nearest():
    tie = 1.5 * 2.0**-127
    step = 2.0**-149
    values = torch.tensor([2.0**-127, 2.0**-127 + step, tie - step, tie, tie + step, 2.0**-126 - step])
    assert encode(values, "e8m0").tolist() == [0, 0, 0, 1, 1, 1]


def test_int4_rounds_ties_to_even_and_saturates():
    grid = torch.linspace(-10, 10, 81)  # quarters: halves are the ties
    expected = np.rint(grid.numpy()).clip(-8, 7).astype(np.int64) & 0xF
    np.testing.assert_array_equal(encode(grid, "int4").numpy(), expected)


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_finite_code_survives_decode_and_encode(name):
    codes = torch.arange(2 ** ELEMENTS[name].bits)
    finite = decode_table(name).isfinite()
    assert torch.equal(encode(decode_table(name)[finite], name).long(), codes[finite])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        pytest.param("e2m1", 5.0, 6, id="e2m1-tie-goes-to-even-code-4"),
        pytest.param("e2m1", 2.5, 4, id="e2m1-tie-goes-to-even-code-2"),
        pytest.param("e2m1", 0.25, 0, id="e2m1-tie-goes-to-zero"),
        pytest.param("e2m1", -0.25, 8, id="e2m1-keeps-the-sign-of-a-zero"),
        pytest.param("e2m1", -0.0, 8, id="e2m1-negative-zero"),
        pytest.param("e2m1", 1e30, 7, id="e2m1-saturates"),
        pytest.param("e2m1", -float("inf"), 15, id="e2m1-inf-saturates"),
        pytest.param("e4m3", 1e9, 0x7E, id="e4m3-saturates-at-448"),
        pytest.param("e4m3", float("inf"), 0x7E, id="e4m3-inf-saturates"),
        pytest.param("e4m3", float("nan"), 0x7F, id="e4m3-nan"),
        pytest.param("e4m3", 2.0**-10, 0, id="e4m3-half-the-smallest-ties-to-zero"),
        pytest.param("e4m3", 2.0**-9, 1, id="e4m3-smallest-subnormal"),
        pytest.param("e8m0", 0.0, 0, id="e8m0-has-no-zero"),
        pytest.param("e8m0", 2.0**-149, 0, id="e8m0-float32-subnormal"),
        pytest.param("e8m0", 3e38, 254, id="e8m0-largest"),
        pytest.param("e8m0", float("inf"), 254, id="e8m0-inf-saturates"),
        pytest.param("e8m0", float("nan"), 255, id="e8m0-nan"),
        pytest.param("e5m3", 0.0, 0, id="e5m3-has-no-zero"),
        pytest.param("e5m3", 2.0**-9, 0, id="e5m3-smallest"),
        pytest.param("e5m3", 1e30, 255, id="e5m3-saturates"),
        pytest.param("ternary", 0.51, 1, id="ternary-one"),
        pytest.param("ternary", 0.5, 0, id="ternary-tie-goes-to-zero"),
        pytest.param("ternary", -9.0, 3, id="ternary-saturates"),
        pytest.param("bf16", 3.4e38, 0x7F80, id="bf16-overflows-to-inf-as-ieee"),
    ],
)
def test_edges_of_encoding(name, value, code):
    assert int(encode(torch.tensor([value]), name)) == code


@pytest.mark.parametrize("name", ["e2m1", "e5m3", "int4", "ternary"])
def test_nan_is_refused_where_no_code_can_hold_it(name):
    with pytest.raises(FormatError, match=f"{name}: NaN has no code.*1 found"):
        encode(torch.tensor([1.0, torch.nan]), name)


@pytest.mark.parametrize("name", ["e8m0", "e5m3"])
def test_negative_is_refused_by_unsigned_formats(name):
    with pytest.raises(FormatError, match=f"{name}: unsigned.*got -2"):
        encode(torch.tensor([1.0, -2.0]), name)


def test_largest_values():
    largest = {name: ELEMENTS[name].max_value for name in ELEMENTS}
    expected = {"e2m1": 6, "e4m3": 448, "e8m0": 2.0**127, "e5m3": 1.875 * 2.0**22, "int4": 7, "ternary": 1}
    expected["bf16"] = float(np.float32(ml_dtypes.finfo(ml_dtypes.bfloat16).max))
    assert largest == expected


def test_e5m3_holds_all_126_positive_e4m3_scales_exactly():
    scales = decode_table("e4m3")[1:127]
    assert len(scales.unique()) == 126
    codes = encode(scales, "e5m3")
    assert torch.equal(decode_table("e5m3")[codes.int()], scales)
    exponent = torch.floor(torch.log2(scales)).int()
    mantissa = ((scales / torch.exp2(exponent.float()) - 1) * 8).int()
    assert torch.equal(codes.int(), ((exponent + 9) << 3) | mantissa)


def test_e5m3_code_moves_into_bf16_by_shift_and_addition():
    codes = torch.arange(256, dtype=torch.int32)
    moved = ((codes << 4) + 0x7600).to(torch.int16).view(torch.bfloat16)
    in_range = codes < 19 * 8  # 2^118 times the scale must stay below bf16's largest exponent
    assert torch.equal(moved[in_range].double(), decode_table("e5m3")[in_range].double() * 2.0**118)
    assert in_range[encode(torch.tensor(448.0), "e5m3").int()]


def test_e2m1_value_times_e4m3_scale_is_exact_in_bf16():
    products = decode_table("e2m1").double().outer(decode_table("e4m3")[1:127].double())
    assert torch.equal(products.to(torch.bfloat16).double(), products)


def test_ternary_is_an_ordinary_row_of_the_table():
    assert decode_table("ternary").tolist() == [0.0, 1.0, -0.0, -1.0]
    assert weight_format("ternary").element_bits == 2


def test_bits_per_weight_follow_from_element_scale_and_block():
    scale_bits = {"e4m3": 8, "e8m0": 8, "bf16": 16}
    for fmt in WEIGHT_FORMATS.values():
        block_bits = scale_bits[fmt.scale_element] / fmt.block_k if fmt.block_k else 0
        assert fmt.bits_per_weight == fmt.element_bits + block_bits
        assert fmt.default_method in fmt.methods


def test_activation_formats_name_a_weight_layout_or_none():
    assert [f.storage for f in ACTIVATION_FORMATS.values()] == [None, "bf16", "fp8", "nvfp4", "mxfp4"]


@pytest.mark.parametrize("look_up", [element_format, weight_format, activation_format])
def test_unknown_names_list_the_known_ones(look_up):
    with pytest.raises(FormatError, match="format 'fp3': unknown; allowed: .*bf16"):
        look_up("fp3")
