"""The E4M3 layout: following the kernel's own bit moves and indices gives back exactly the FP8 weights it stands for."""

import numpy as np
import pytest
import torch

from fp4moe.cuda.e4m3_layout import CHUNK_K, HIGHEST_BITS, LOWEST_BITS, as_fp8, down_order, gate_up_order, pack_weight
from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import dequantize, quantize_weight

CHUNK_BYTES = {"nvfp4": 1152, "mxfp4": 1088}
MAGNITUDES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
SCALE_BITS = {"nvfp4": range(LOWEST_BITS, HIGHEST_BITS + 1), "mxfp4": range(LOWEST_BITS, HIGHEST_BITS, 8)}


def e4m3(codes: np.ndarray) -> np.ndarray:
    return torch.from_numpy(codes.astype(np.uint8)).view(torch.float8_e4m3fn).float().numpy()


def make_table(bits: np.ndarray, name: str) -> np.ndarray:
    """make_table() of e4m3_fragments.cuh: uint32 [...] -> uint8 [..., 8]."""
    bits = bits.astype(np.uint32)
    low, high = bits * np.uint32(0x01010100) + np.uint32(0x03FFF800), bits * np.uint32(0x01010101) + np.uint32(0x14100C08)
    if name == "nvfp4":
        more = (np.uint32(0x3E3E3E3E) >> (bits & np.uint32(31))) & np.uint32(1)
        low, high = low + more * np.uint32(0x01000000), high + more * np.uint32(0x01000100)
    return np.stack([low, high], axis=-1).view(np.uint8).reshape(*bits.shape, 8)


def expand(words: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """expand_codes(): uint32 [...] and [..., 8] -> the bytes of both registers, [..., 8]."""
    out = []
    both = words & np.uint32(0x77777777)
    for selectors, signs in ((both, words), (both >> np.uint32(16), words << np.uint32(4))):
        picks = np.stack([(selectors >> np.uint32(4 * i)) & np.uint32(15) for i in range(4)], axis=-1)
        assert picks.max() < 8  # bit 3 would repeat a sign
        sign = np.stack([(signs & np.uint32(0x80808080)) >> np.uint32(8 * i) for i in range(4)], axis=-1) & np.uint32(0xFF)
        out.append(np.take_along_axis(tables, picks.astype(np.int64), -1) | sign.astype(np.uint8))
    return np.concatenate(out, axis=-1)


def chunk_values(chunk: np.ndarray, name: str) -> np.ndarray:
    """float32 [16 rows, 128 places] in the order of the tensor core: what the warp's registers hold."""
    words = chunk[:1024].view(np.uint32).reshape(2, 8, 4, 2, 2)  # quarter, g, t, step, high
    scales = chunk[1024:].reshape(8, 4, -1, 2)  # g, t, quarter or one, high
    scales = np.broadcast_to(scales, (8, 4, 2, 2)).transpose(2, 0, 1, 3)[:, :, :, None, :]
    tables = np.broadcast_to(make_table(scales, name), (*words.shape, 8))
    registers = expand(words, tables).reshape(2, 8, 4, 2, 2, 2, 4)  # quarter, g, t, step, high, half, i
    # mma.m16n8k32: row g + 8 high, k 16 half + 4 t + i of the step
    return e4m3(registers.transpose(4, 1, 0, 3, 5, 2, 6)).reshape(16, CHUNK_K)


def order_of_places() -> np.ndarray:
    """[128]: the k at each place of the tensor core, by the rule of the activations: 16 bytes c hold k = 32 t + 4 c + 0..3."""
    c, t, i = np.meshgrid(np.arange(8), np.arange(4), np.arange(4), indexing="ij")
    return (32 * t + 4 * c + i).reshape(-1)


def packed_values(packed: torch.Tensor, name: str, k: int) -> np.ndarray:
    """One expert's bytes -> float32 [N, K], rows as packed, k in its natural order."""
    blocks = packed.numpy().reshape(packed.shape[0], k // CHUNK_K, 8, CHUNK_BYTES[name])
    out = np.zeros((packed.shape[0] * 128, k), np.float32)
    for block, chunk, tile in np.ndindex(*blocks.shape[:3]):
        row = block * 128 + tile * 16
        out[row : row + 16, chunk * CHUNK_K + order_of_places()] = chunk_values(blocks[block, chunk, tile].copy(), name)
    return out


def weights(name: str, num_experts: int, rows: int, k: int, spread: float = 0.0) -> QuantizedTensor:
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(num_experts, rows, k, generator=generator) * 0.05
    blocks = torch.randn(num_experts, rows, k // 32, 1, generator=generator)
    return quantize_weight((w.unflatten(-1, (-1, 32)) * torch.exp(spread * blocks)).flatten(-2), name)


def check_packed(q: QuantizedTensor, order: torch.Tensor) -> None:
    packed, scales = pack_weight(q, order)
    fp8 = as_fp8(q)
    for expert in range(q.shape[0]):
        found = packed_values(packed[expert], q.format, q.shape[-1])
        assert (found == fp8.codes[expert].float()[order].numpy()).all()
        assert torch.equal(scales[expert], fp8.scales[expert, order, 0])


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_every_table_is_the_rounded_product(name):
    bits = np.array(SCALE_BITS[name])
    right = (MAGNITUDES * torch.from_numpy(e4m3(bits))[:, None]).to(torch.float8_e4m3fn)
    assert (make_table(bits, name) == right.view(torch.uint8).numpy()).all()


def test_every_code_at_every_place_of_a_word_comes_back():
    places = torch.arange(8)
    for code in range(16):
        codes = torch.where(places[:, None] == places, code, 0).to(torch.uint8).repeat(1, 16).repeat(16, 1)  # [128, 128]
        packed_codes = (codes[..., 0::2] | (codes[..., 1::2] << 4)).unsqueeze(0)
        ones = torch.ones(1, 128, 8).to(torch.float8_e4m3fn)
        q = QuantizedTensor("nvfp4", "absmax", (1, 128, 128), packed_codes, ones, torch.ones(1))
        packed, scales = pack_weight(q, down_order(128))
        found = packed_values(packed[0], "nvfp4", 128) * scales[0, :, None].numpy()
        assert (found == dequantize(q)[0][down_order(128)].numpy()).all()


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize(("rows", "k"), [pytest.param(128, 128, id="one-chunk"), pytest.param(256, 384, id="several")])
def test_down_is_what_as_fp8_says(name, rows, k):
    check_packed(weights(name, 2, rows, k), down_order(rows))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize("spread", [pytest.param(0.0, id="plain"), pytest.param(4.0, id="blocks-below-the-floor")])
def test_gate_and_up_are_what_as_fp8_says(name, spread):
    check_packed(weights(name, 2, 512, 256, spread), gate_up_order(256))


def test_fp8_rows_lie_in_the_swizzle_of_the_tensor_core():
    """16 bytes at place c of row r lie at 1024 (r / 8) + 128 (r % 8) + 16 (c ^ r % 8), the hardware's 128-byte swizzle."""
    q = weights("fp8", 2, 256, 256)
    packed, scales = pack_weight(q, down_order(256))
    assert torch.equal(scales, q.scales[:, down_order(256), 0]) and as_fp8(q) is q
    row, place, byte = np.meshgrid(np.arange(128), np.arange(8), np.arange(16), indexing="ij")
    address = row // 8 * 1024 + row % 8 * 128 + (place ^ row % 8) * 16 + byte
    for expert, block, chunk in np.ndindex(2, 2, 2):
        rows = packed[expert, block, chunk].numpy()[address].reshape(128, 128)
        right = q.codes[expert].view(torch.uint8)[down_order(256)][block * 128 :][:128, chunk * 128 :][:, :128].numpy()
        assert (rows == right[:, order_of_places()]).all()


def test_gate_and_up_rows_are_eight_apart_and_down_rows_side_by_side():
    order = gate_up_order(64).reshape(-1, 2, 8)
    assert torch.equal(order[:, 1], order[:, 0] + 64) and torch.equal(order[3, 0], torch.arange(24, 32))
    assert torch.equal(down_order(32).reshape(2, 2, 8)[:, 1], down_order(32).reshape(2, 2, 8)[:, 0] + 1)


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize("spread", [pytest.param(0.0, id="plain"), pytest.param(4.0, id="blocks-below-the-floor")])
def test_as_fp8_errs_by_one_rounding(name, spread):
    """Half a step of E4M3, 2^-4 of the value; below the floor of E2M1 there: a quarter of the value or of the floor."""
    q = weights(name, 2, 256, 256, spread)
    fp8, right = as_fp8(q), dequantize(q)
    floor = torch.tensor(LOWEST_BITS, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    is_low = right.abs() < 6 * floor * fp8.scales  # any value of a block below the floor is
    bound = right.abs() * (2.0**-4 + 2.0**-23) + torch.where(is_low, right.abs() / 4 + fp8.scales * floor / 4, 0.0)
    assert bool(((dequantize(fp8) - right).abs() <= bound).all())
    if spread == 0.0:
        assert float((dequantize(fp8) - right).norm() / right.norm()) < 2.0**-4 / 3**0.5  # uniform over a rounding's interval


def test_rows_far_apart_lose_nothing():
    """A row scale of its own: rows of 2^-20 of the others are as exact as they."""
    q = weights("nvfp4", 1, 128, 128)
    row_scales = (q.tensor_scale * torch.exp2(-(torch.arange(128.0) % 20))).reshape(1, 128)
    small = QuantizedTensor("nvfp4", q.method, q.shape, q.codes, q.scales, row_scales)
    near, far = (dequantize(as_fp8(w)) / w.tensor_scale.reshape(1, -1, 1) for w in (q, small))
    assert torch.equal(near, far)


def test_a_row_of_zeros_stays_one():
    q = quantize_weight(torch.zeros(1, 128, 128), "nvfp4")
    assert not dequantize(as_fp8(q)).any()
    q.scales.view(torch.uint8).zero_()  # other tools write a scale of zero
    assert not dequantize(as_fp8(q)).any()


def test_mxfp4_above_the_floor_is_exact():
    q = weights("mxfp4", 2, 128, 128)
    assert int(q.scales.max()) - int(q.scales.min()) < 11
    assert torch.equal(dequantize(as_fp8(q)), dequantize(q))


def test_row_scales_of_gate_and_up_are_kept():
    q = weights("nvfp4", 2, 256, 128)
    rows = torch.cat([q.tensor_scale[:, None].expand(-1, 128), 2 * q.tensor_scale[:, None].expand(-1, 128)], dim=1)
    both = QuantizedTensor("nvfp4", q.method, q.shape, q.codes, q.scales, rows.contiguous())
    factor = as_fp8(both).scales[..., 0] / as_fp8(q).scales[..., 0]
    assert torch.equal(factor, torch.ones(2, 256).index_fill_(1, torch.arange(128, 256), 2.0))


@pytest.mark.parametrize(
    ("name", "rows", "k"),
    [
        pytest.param("nvfp4", 128, 64, id="k-is-no-whole-chunk"),
        pytest.param("nvfp4", 64, 128, id="too-few-rows"),
        pytest.param("bf16", 128, 128, id="format"),
    ],
)
def test_what_does_not_fit_is_refused(name, rows, k):
    with pytest.raises(FormatError, match="e4m3: needs nvfp4 or mxfp4 or fp8"):
        pack_weight(weights(name, 1, rows, k), down_order(rows))


def test_a_nan_scale_is_refused():
    q = weights("mxfp4", 1, 128, 128)
    q.scales[0, 3, 1] = 255
    with pytest.raises(FormatError, match="NaN"):
        as_fp8(q)
