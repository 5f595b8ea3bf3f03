"""The reference products against loops in float64, for every format and awkward distribution of tokens."""

import pytest
import torch

from fp4moe import reference
from fp4moe.formats import ACTIVATION_FORMATS, WEIGHT_FORMATS
from fp4moe.layouts import RowExperts
from fp4moe.quantize import dequantize, quantize_weight, round_activation
from fp4moe.reference import Routing, down, gate_up, gemm, product, route
from fp4moe.reference.product import STABLE_ROWS

HIDDEN, INTERMEDIATE, EXPERTS = 128, 64, 4  # both reductions are multiples of 64, the longest block
# A float32 sum of K products errs by at most K * 2^-24 of the sum of magnitudes, which for random signs is
# below 2 * sqrt(K) times the result's spread. Tests scale by the largest output element: K^1.5 * 2^-23.
TOLERANCE = HIDDEN**1.5 * 2.0**-23


def weight(rows: int, columns: int, format: str = "nvfp4"):
    generator = torch.Generator().manual_seed(rows + columns)
    return quantize_weight(0.1 * torch.randn(EXPERTS, rows, columns, generator=generator), format)


def activations_of(num_tokens: int, columns: int) -> torch.Tensor:
    return torch.randn(num_tokens, columns, generator=torch.Generator().manual_seed(columns))


def routing_to(experts_TK: list[list[int]]) -> Routing:
    """A routing that takes exactly these experts, the first with the larger weight."""
    logits_TE = torch.full((len(experts_TK), EXPERTS), -20.0)
    for token, experts in enumerate(experts_TK):
        for place, expert in enumerate(experts):
            logits_TE[token, expert] = 1.0 - place
    return route(logits_TE, len(experts_TK[0]))


ROUTINGS = [
    pytest.param([[2, 0]], id="one-token"),
    pytest.param([[1], [3], [1], [0], [1]], id="top-1-one-expert-without-tokens"),
    pytest.param([[3, 1]] * 7, id="all-tokens-on-the-same-two-experts"),
    pytest.param([[0]] * 5, id="all-tokens-on-one-expert"),
    pytest.param(
        [[0, 1], [2, 3], [1, 0], [3, 0], [2, 1], [0, 3], [1, 2], [2, 0], [3, 2], [1, 3], [0, 2]],
        id="all-mixed",
    ),
]


def naive_gate_up(x_TD, w, routing, activations):
    """Rows in slot order, [T, K, F]."""
    w_END, x_TD = dequantize(w).double(), round_activation(x_TD, activations).double()
    h_TKF = []
    for token, experts in enumerate(routing.ids_TK.tolist()):
        for expert in experts:
            gate = w_END[expert, :INTERMEDIATE] @ x_TD[token]
            h_TKF.append(gate * torch.sigmoid(gate) * (w_END[expert, INTERMEDIATE:] @ x_TD[token]))
    return torch.stack(h_TKF)


def naive_down(h_SF_in_slot_order, w, routing, activations):
    w_EDF, h = dequantize(w).double(), round_activation(h_SF_in_slot_order.float(), activations).double()
    y_TD = torch.zeros(len(routing.ids_TK), HIDDEN, dtype=torch.float64)
    for slot, expert in enumerate(routing.ids_TK.flatten().tolist()):
        token = slot // routing.ids_TK.shape[1]
        y_TD[token] += routing.weights_TK.flatten()[slot].double() * (w_EDF[expert] @ h[slot])
    return y_TD


def assert_near(found, right):
    assert found.dtype == torch.float32
    assert (found.double() - right).abs().max() <= TOLERANCE * right.abs().max()


@pytest.mark.parametrize("experts_TK", ROUTINGS)
def test_gate_up_is_the_loop_and_sorted_by_expert(experts_TK):
    routing, w = routing_to(experts_TK), weight(2 * INTERMEDIATE, HIDDEN)
    x_TD = activations_of(len(experts_TK), HIDDEN)
    h_SF = gate_up(x_TD, w, routing, "bf16")
    assert_near(h_SF, naive_gate_up(x_TD, w, routing, "bf16")[routing.order_S])


@pytest.mark.parametrize("experts_TK", ROUTINGS)
def test_down_is_the_loop_with_gate_weights_applied(experts_TK):
    routing, w = routing_to(experts_TK), weight(HIDDEN, INTERMEDIATE)
    h_slots = activations_of(routing.ids_TK.numel(), INTERMEDIATE)
    y_TD = down(h_slots[routing.order_S], w, routing, "bf16")
    assert_near(y_TD, naive_down(h_slots, w, routing, "bf16"))


@pytest.mark.parametrize("activations", ACTIVATION_FORMATS)
@pytest.mark.parametrize("format", WEIGHT_FORMATS)
def test_every_pair_of_formats(format, activations):
    routing = routing_to([[0, 2], [3, 2], [0, 1]])
    x_TD, h_slots = activations_of(3, HIDDEN), activations_of(6, INTERMEDIATE)
    w_up, w_down = weight(2 * INTERMEDIATE, HIDDEN, format), weight(HIDDEN, INTERMEDIATE, format)
    h_SF = gate_up(x_TD, w_up, routing, activations)
    assert_near(h_SF, naive_gate_up(x_TD, w_up, routing, activations)[routing.order_S])
    y_TD = down(h_slots[routing.order_S], w_down, routing, activations)
    assert_near(y_TD, naive_down(h_slots, w_down, routing, activations))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_are_both_products_in_the_dtype_of_x(dtype):
    routing, x_TD = routing_to([[0, 2], [3, 2], [0, 1]]), activations_of(3, HIDDEN).to(dtype)
    packed = RowExperts(weight(2 * INTERMEDIATE, HIDDEN), weight(HIDDEN, INTERMEDIATE))
    y_TD = reference.experts(x_TD, packed, routing, "bf16")
    right = down(gate_up(x_TD, packed.gate_up, routing, "bf16"), packed.down, routing, "bf16")
    assert y_TD.dtype == dtype and torch.equal(y_TD, right.to(dtype))


def test_only_experts_that_were_hit_are_dequantized(monkeypatch):
    seen = []

    def watching(q, *args):
        seen.append(q.codes.data_ptr())
        return dequantize(q, *args)

    monkeypatch.setattr(gemm, "dequantize", watching)
    w = weight(2 * INTERMEDIATE, HIDDEN)
    gate_up(activations_of(2, HIDDEN), w, routing_to([[1, 3], [3, 1]]), "bf16")
    assert seen == [w.codes[1].data_ptr(), w.codes[3].data_ptr()]


def test_a_token_does_not_change_when_its_neighbors_are_reordered():
    experts = [[0, 1], [1, 2], [2, 3], [3, 0], [1, 0]]
    flipped = list(reversed(experts))
    x_TD, w_up, w_down = (
        activations_of(5, HIDDEN),
        weight(2 * INTERMEDIATE, HIDDEN),
        weight(HIDDEN, INTERMEDIATE),
    )

    def layer(x_TD, routing):
        return down(gate_up(x_TD, w_up, routing, "fp32"), w_down, routing, "fp32")

    there, back = layer(x_TD, routing_to(experts)), layer(x_TD.flip(0), routing_to(flipped)).flip(0)
    # Same operands, but each expert's product may sum its rows in another order: float32 rounding.
    assert (there - back).abs().max() <= TOLERANCE * there.abs().max()


def test_no_tokens_give_no_rows():
    routing = route(torch.empty(0, EXPERTS), 2)
    h_SF = gate_up(torch.empty(0, HIDDEN), weight(2 * INTERMEDIATE, HIDDEN), routing, "bf16")
    y_TD = down(h_SF, weight(HIDDEN, INTERMEDIATE), routing, "bf16")
    assert h_SF.shape == (0, INTERMEDIATE) and y_TD.shape == (0, HIDDEN)


@pytest.mark.parametrize(
    ("num_outputs", "reduction"),
    [
        pytest.param(256, 256, id="pocket-attention"),
        pytest.param(2048, 256, id="pocket-head"),
        pytest.param(8, 256, id="router"),
        pytest.param(97, 96, id="odd-outputs"),
        pytest.param(64, 1024, id="long-reduction"),
    ],
)
def test_a_row_of_a_product_has_the_same_bits_in_any_small_batch(num_outputs, reduction):
    generator = torch.Generator().manual_seed(0)
    x_RK = torch.randn(STABLE_ROWS, reduction, generator=generator)
    w_NK = torch.randn(num_outputs, reduction, generator=generator)
    all_rows = product(x_RK, w_NK)
    for count in (1, 2, 3, 8, 17, 31):
        for first in range(0, STABLE_ROWS - count + 1, 5):
            assert torch.equal(product(x_RK[first : first + count], w_NK), all_rows[first : first + count])
    right = x_RK.double() @ w_NK.double().T
    assert (all_rows - right).abs().max() <= reduction**1.5 * 2.0**-23 * right.abs().max()
