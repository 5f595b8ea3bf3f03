"""What the Triton wrappers refuse, the tile table, and the bound on the number of tiles; nothing is launched here."""

import itertools

import pytest
import torch

pytest.importorskip("triton")

from fp4moe.errors import FormatError, SelectionError
from fp4moe.layouts import RowExperts
from fp4moe.quantize import quantize_weight
from fp4moe.reference import route as reference_route
from fp4moe.select import Capability
from fp4moe.triton import gemm_launch
from fp4moe.triton.experts import _check, experts
from fp4moe.triton.route import route
from fp4moe.triton.sort import most_tiles
from fp4moe.triton.tiles import tile_for, tiles

EXPERTS, HIDDEN, INTERMEDIATE = 2, 64, 32


def packed(weights: str) -> RowExperts:
    gate_up, down = torch.ones(EXPERTS, 2 * INTERMEDIATE, HIDDEN), torch.ones(EXPERTS, HIDDEN, INTERMEDIATE)
    return RowExperts(quantize_weight(gate_up, weights), quantize_weight(down, weights))


@pytest.fixture
def no_device_check(monkeypatch):
    monkeypatch.setattr("fp4moe.triton.experts.check_device", lambda tensor, name: None)


def test_a_tensor_on_the_cpu_is_refused_with_what_to_do():
    logits_TE, x_TD = torch.zeros(3, EXPERTS), torch.zeros(3, HIDDEN)
    with pytest.raises(SelectionError, match="triton route: needs a tensor on CUDA .got one on cpu.; move it there"):
        route(logits_TE, 1)
    with pytest.raises(SelectionError, match="triton experts: needs a tensor on CUDA"):
        experts(x_TD, packed("nvfp4"), reference_route(logits_TE, 1), "bf16")


def test_formats_without_a_kernel_are_refused_with_those_that_have_one(no_device_check):
    with pytest.raises(SelectionError, match="nvfp4 x bf16, .*got int4 x bf16"):
        _check(torch.zeros(3, HIDDEN), packed("int4"), "int4", "bf16")


@pytest.mark.parametrize(
    "x_TD",
    [
        pytest.param(torch.zeros(3, HIDDEN, dtype=torch.float16), id="another-dtype"),
        pytest.param(torch.zeros(3, HIDDEN + 1), id="another-hidden-size"),
    ],
)
def test_x_of_the_wrong_kind_is_refused(no_device_check, x_TD):
    with pytest.raises(SelectionError, match="x must be float32 or bfloat16 .T, 64."):
        _check(x_TD, packed("nvfp4"), "nvfp4", "bf16")


def test_weights_that_are_not_contiguous_are_refused():
    w = packed("fp8").down
    strided = torch.empty(EXPERTS, INTERMEDIATE, HIDDEN, dtype=w.codes.dtype).transpose(1, 2)
    object.__setattr__(w, "codes", strided)
    with pytest.raises(FormatError, match="fp8 codes must be contiguous"):
        gemm_launch._operands(w)


@pytest.mark.parametrize("weights", ["nvfp4", "mxfp4", "fp8", "bf16"])
@pytest.mark.parametrize("device", ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "sm_300", "cpu"])
def test_tiles_are_ordered_and_take_any_number_of_slots(weights, device):
    rows = tiles(weights, Capability.parse(device))
    assert rows[-1].up_to_slots is None and all(row.up_to_slots is not None for row in rows[:-1])
    assert all(one.up_to_slots < two.up_to_slots for one, two in itertools.pairwise(rows[:-1]))
    assert all(row.block_k == 128 for row in rows) or weights == "bf16"
    assert tile_for(weights, Capability.parse(device), 0.25) == rows[0]
    assert tile_for(weights, Capability.parse(device), 1e6) == rows[-1]


@pytest.mark.parametrize(
    ("num_slots", "num_experts", "tile_rows"),
    [
        pytest.param(1, 8, 16, id="one-slot"),
        pytest.param(7, 3, 2, id="more-slots-than-experts"),
        pytest.param(6, 6, 4, id="as-many"),
        pytest.param(9, 2, 4, id="whole-tiles"),
    ],
)
def test_most_tiles_is_reached_and_never_passed(num_slots, num_experts, tile_rows):
    def num_tiles(counts):
        return sum(-(-count // tile_rows) for count in counts)

    routings = itertools.combinations_with_replacement(range(num_experts), num_slots)
    worst = max(num_tiles([routing.count(e) for e in range(num_experts)]) for routing in routings)
    assert worst == most_tiles(num_slots, num_experts, tile_rows)
