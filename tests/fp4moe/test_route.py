"""Routing: the experts, their weights, the permutation and its inverse, the histogram, the balance loss."""

import pytest
import torch

from fp4moe.reference import Routing, load_balance_loss, route

CASES = [
    pytest.param(1, 8, 2, id="one-token"),
    pytest.param(7, 8, 1, id="top-1"),
    pytest.param(13, 8, 2, id="tokens-not-a-multiple-of-anything"),
    pytest.param(5, 3, 3, id="every-expert-taken"),
    pytest.param(3, 64, 2, id="more-experts-than-slots"),
    pytest.param(0, 8, 2, id="no-token"),
]


def logits_of(num_tokens: int, num_experts: int) -> torch.Tensor:
    return torch.randn(num_tokens, num_experts, generator=torch.Generator().manual_seed(num_tokens))


@pytest.mark.parametrize(("num_tokens", "num_experts", "top_k"), CASES)
def test_weights_are_a_softmax_over_the_chosen_logits(num_tokens, num_experts, top_k):
    logits_TE = logits_of(num_tokens, num_experts)
    routing = route(logits_TE, top_k)
    best = logits_TE.topk(top_k)
    assert torch.equal(routing.ids_TK, best.indices)
    # Renormalizing p and softmax over k logits are one number by two float32 routes: a few ulp apart.
    torch.testing.assert_close(routing.weights_TK, best.values.softmax(-1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("num_tokens", "num_experts", "top_k"), CASES)
def test_permutation_sorts_by_expert_is_stable_and_has_an_inverse(num_tokens, num_experts, top_k):
    routing = route(logits_of(num_tokens, num_experts), top_k)
    slots_S = torch.arange(num_tokens * top_k)
    ids_S = routing.ids_TK.flatten()
    expected_S = torch.tensor(sorted(slots_S.tolist(), key=lambda s: (int(ids_S[s]), s)), dtype=torch.int64)
    assert torch.equal(routing.order_S, expected_S)
    assert torch.equal(slots_S[routing.order_S][routing.inverse_S], slots_S)
    assert torch.equal(routing.token_of_row_S, expected_S // top_k)


@pytest.mark.parametrize(("num_tokens", "num_experts", "top_k"), CASES)
def test_histogram_counts_every_slot(num_tokens, num_experts, top_k):
    routing = route(logits_of(num_tokens, num_experts), top_k)
    assert routing.counts_E.tolist() == [int((routing.ids_TK == e).sum()) for e in range(num_experts)]
    assert int(routing.counts_E.sum()) == num_tokens * top_k


def test_expert_rows_cover_the_sorted_order_and_skip_experts_without_tokens():
    logits_TE = torch.tensor([[0.0, 9.0, -9.0, 1.0], [0.0, 9.0, -9.0, 1.0], [9.0, 0.0, -9.0, 1.0]])
    routing = route(logits_TE, 2)
    assert list(routing.expert_rows()) == [(0, slice(0, 1)), (1, slice(1, 3)), (3, slice(3, 6))]


def test_equal_probabilities_take_the_lower_expert():
    assert route(torch.zeros(2, 5), 2).ids_TK.tolist() == [[0, 1], [0, 1]]


def test_all_tokens_on_one_expert():
    logits_TE = torch.zeros(9, 4)
    logits_TE[:, 2] = 50.0
    routing = route(logits_TE, 1)
    assert routing.counts_E.tolist() == [0, 0, 9, 0]
    assert routing.order_S.tolist() == list(range(9))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_order_is_made_when_asked_for_and_once(dtype):
    ids_TK = torch.tensor([[1, 0], [0, 2]], dtype=dtype)
    routing = Routing(ids_TK, torch.full((2, 2), 0.5), num_experts=4)
    assert vars(routing).keys() == {"ids_TK", "weights_TK", "num_experts"}
    assert routing.order_S.tolist() == [1, 2, 0, 3] and routing.order_S.dtype == torch.int64
    assert routing.inverse_S.tolist() == [2, 0, 1, 3]
    assert routing.counts_E.tolist() == [2, 1, 1, 0]
    assert routing.order_S is routing.order_S and routing.counts_E is routing.counts_E


def test_some_of_the_tokens_keep_their_experts_and_weights():
    routing = route(logits_of(5, 8), 2)
    some = routing.tokens(slice(1, 4))
    assert torch.equal(some.ids_TK, routing.ids_TK[1:4]) and torch.equal(some.weights_TK, routing.weights_TK[1:4])
    assert some.counts_E.tolist() == [int((some.ids_TK == e).sum()) for e in range(8)]


def test_float16_logits_are_routed_in_float32():
    logits_TE = logits_of(6, 8).half()
    assert torch.equal(route(logits_TE, 2).weights_TK, route(logits_TE.float(), 2).weights_TK)


@pytest.mark.parametrize("top_k", [pytest.param(1, id="top-1"), pytest.param(2, id="top-2")])
def test_balance_loss_is_that_of_transformers(top_k):
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits_TE = logits_of(37, 8)
    theirs = mixtral.load_balancing_loss_func((logits_TE,), num_experts=8, top_k=top_k)
    torch.testing.assert_close(load_balance_loss(logits_TE, top_k), theirs)


def test_balance_loss_of_an_even_router_is_top_k_and_of_a_collapsed_one_is_the_number_of_experts():
    even_TE = 30 * torch.eye(4).repeat(3, 1)
    assert load_balance_loss(even_TE, 1).item() == pytest.approx(1.0)
    collapsed_TE = torch.zeros(12, 4)
    collapsed_TE[:, 0] = 30.0
    assert load_balance_loss(collapsed_TE, 1).item() == pytest.approx(4.0)


def test_balance_loss_pulls_probability_away_from_the_busy_expert():
    logits_TE = torch.zeros(8, 4)
    logits_TE[:, 1] = 0.5
    logits_TE.requires_grad_()
    load_balance_loss(logits_TE, 1).backward()
    assert (logits_TE.grad[:, 1] > 0).all() and (logits_TE.grad[:, [0, 2, 3]] < 0).all()
