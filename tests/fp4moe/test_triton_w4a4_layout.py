"""The W4A4 layout holds exactly the stored weights, found again by following its description."""

import pytest
import torch

from fp4moe.errors import FormatError
from fp4moe.formats import weight_format
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import dequantize, quantize_weight
from fp4moe.triton.w4a4_layout import pack

EXPERTS, HIDDEN, INTERMEDIATE = 2, 256, 384
FORMATS = ["nvfp4", "mxfp4"]


def weights(format: str, rows: int, columns: int) -> QuantizedTensor:
    generator = torch.Generator().manual_seed(rows)
    return quantize_weight(torch.randn(EXPERTS, rows, columns, generator=generator), format, "absmax")


def stored_rows(matrices, format: str) -> QuantizedTensor:
    """The packed matrices as [E, N, K] again, rows in packed order: index by index as the docstring says."""
    experts, row_tiles, chunks = matrices.codes.shape[:3]
    block = weight_format(format).block_k
    codes = torch.empty(experts, row_tiles * 128, chunks * 64, dtype=torch.uint8)
    scales = torch.empty(experts, row_tiles * 128, chunks * 128 // block, dtype=torch.uint8)
    for tile in range(row_tiles):
        for chunk in range(chunks):
            for row in range(128):
                at = tile * 128 + row
                codes[:, at, chunk * 64 : chunk * 64 + 64] = matrices.codes[:, tile, chunk, row]
                for group in range(128 // block):
                    byte = (group // 4) * 512 + (row % 32) * 16 + (row // 32) * 4 + group % 4
                    scales[:, at, chunk * 128 // block + group] = matrices.scales[:, tile, chunk, byte]
    fmt = weight_format(format)
    return QuantizedTensor(
        format=format, method="absmax", shape=(experts, row_tiles * 128, chunks * 128), codes=codes,
        scales=scales.view(fmt.scale_dtype), tensor_scale=matrices.row_scale if fmt.has_tensor_scale else None,
    )  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_every_weight_is_there(format):
    gate_up, down = weights(format, 2 * INTERMEDIATE, HIDDEN), weights(format, HIDDEN, INTERMEDIATE)
    packed = pack(gate_up, down)
    assert packed.layout == "triton-w4a4"
    assert (packed.num_experts, packed.hidden, packed.intermediate) == (EXPERTS, HIDDEN, INTERMEDIATE)
    assert torch.equal(dequantize(stored_rows(packed.down, format)), dequantize(down))
    found = dequantize(stored_rows(packed.gate_up, format)).unflatten(1, (-1, 2, 8))
    gate, up = dequantize(gate_up).chunk(2, dim=1)
    assert torch.equal(found[:, :, 0].flatten(1, 2), gate)
    assert torch.equal(found[:, :, 1].flatten(1, 2), up)


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_do_not_grow_but_for_row_scales(format):
    gate_up, down = weights(format, 2 * INTERMEDIATE, HIDDEN), weights(format, HIDDEN, INTERMEDIATE)
    tensors = pack(gate_up, down).tensors()
    assert sorted(tensors) == [f"{m}.{part}" for m in ("down", "gate_up") for part in ("codes", "row_scale", "scales")]
    stored = sum(w.nbytes()[part] for w in (gate_up, down) for part in ("codes", "scales"))
    assert sum(t.nbytes for name, t in tensors.items() if "row_scale" not in name) == stored


def test_a_tensor_scale_a_row_follows_its_row():
    gate_up = weights("nvfp4", 2 * INTERMEDIATE, HIDDEN)
    scale = torch.arange(1.0, 1 + EXPERTS * 2 * INTERMEDIATE).view(EXPERTS, -1)
    by_row = QuantizedTensor(
        format="nvfp4", method="absmax", shape=gate_up.shape, codes=gate_up.codes, scales=gate_up.scales, tensor_scale=scale
    )
    packed = pack(by_row, weights("nvfp4", HIDDEN, INTERMEDIATE)).gate_up.row_scale.unflatten(1, (-1, 2, 8))
    assert torch.equal(torch.cat([packed[:, :, 0].flatten(1), packed[:, :, 1].flatten(1)], dim=1), scale)


@pytest.mark.parametrize(
    ("gate_up", "down", "message"),
    [
        pytest.param(("nvfp4", 768, 192), ("nvfp4", 192, 384), "sizes that 128 divides", id="hidden-tail"),
        pytest.param(("nvfp4", 384, 256), ("nvfp4", 256, 192), "sizes that 128 divides", id="intermediate-tail"),
        pytest.param(("bf16", 768, 256), ("bf16", 256, 384), "must be nvfp4 or mxfp4", id="bf16"),
        pytest.param(("nvfp4", 768, 256), ("mxfp4", 256, 384), "down must be nvfp4", id="two-formats"),
        pytest.param(("nvfp4", 768, 256), ("nvfp4", 256, 256), "down must be nvfp4", id="two-layers"),
    ],
)
def test_what_does_not_fit_is_refused(gate_up, down, message):
    first, second = (quantize_weight(torch.zeros(1, n, k), format) for format, n, k in (gate_up, down))
    with pytest.raises(FormatError, match=message):
        pack(first, second)
