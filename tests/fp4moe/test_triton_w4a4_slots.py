"""Slots sorted by expert in tiles: the reference's stable order, every slot in one tile, no tile of two experts."""

import pytest
import torch

from w4a4_interpreted import interpreted


def random_ids(num_tokens: int, top_k: int, num_experts: int) -> torch.Tensor:
    scores = torch.rand(num_tokens, num_experts, generator=torch.Generator().manual_seed(num_tokens))
    return scores.topk(top_k).indices


CASES = {  # ids, experts, slots of a tile
    "one-token": (torch.tensor([[3, 1]]), 4, 16),
    "expert-without-tokens": (torch.tensor([[1], [3], [1], [0], [1]]), 4, 16),
    "all-on-one-expert-in-three-tiles": (torch.full((40, 1), 2), 4, 16),
    "a-tile-exactly-full": (torch.full((16, 1), 0), 2, 16),
    "int32": (random_ids(33, 2, 8).int(), 8, 16),
    "more-slots-than-a-step-compares": (random_ids(40, 4, 33), 33, 16),
    "one-expert": (torch.zeros(5, 1, dtype=torch.int64), 1, 16),
    "more-tiles-than-one-store-writes": (torch.ones(2 * 130, 1, dtype=torch.int64), 2, 2),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    calls = [("fp4moe.triton.w4a4_slots", "tile_slots", case, {}) for case in CASES.values()]
    return dict(zip(CASES, interpreted(calls, tmp_path_factory.mktemp("slots")), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_order_is_the_stable_sort(found, case):
    ids_S = CASES[case][0].flatten()
    assert torch.equal(found[case].order_S.long(), ids_S.argsort(stable=True))


@pytest.mark.parametrize("case", CASES)
def test_every_slot_is_in_one_tile_of_its_expert(found, case):
    ids_TK, num_experts, tokens = CASES[case]
    tiles, seen = found[case], []
    used = [column for column in tiles.table.T.tolist() if column[0] >= 0]
    for expert, first, last in used:
        assert 0 < last - first + 1 <= tokens
        slots = tiles.order_S[first : last + 1].long()
        assert (ids_TK.flatten()[slots] == expert).all()
        seen += slots.tolist()
    assert sorted(seen) == list(range(ids_TK.numel()))
    counts = ids_TK.flatten().bincount(minlength=num_experts)
    assert len(used) == int((-(-counts // tokens)).sum()) <= tiles.count
    assert (tiles.table[0, len(used) :] == -1).all()
