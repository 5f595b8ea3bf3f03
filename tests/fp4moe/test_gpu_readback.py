"""What the host reads of a decode step: one tensor, alike on both sides, in memory that is used again but never shared."""

import numpy as np
import pytest
import torch

from fp4moe.runtime.gpu.readback import ALIGNMENT, DecodeReadback, DecodeResults, HostMemory

CPU = torch.device("cpu")
LAYERS, TOP_K = 3, 2


def filled(lanes: int, first: int = 0) -> DecodeResults:
    results = DecodeResults.of(LAYERS, lanes, TOP_K, CPU)
    results.tokens_B.copy_(torch.arange(lanes) + first)
    results.recorded_LBK.copy_(torch.arange(LAYERS * lanes * TOP_K).view(LAYERS, lanes, TOP_K) + first)
    return results


@pytest.mark.parametrize(
    ("lanes", "count"),
    [
        pytest.param(1, 1, id="one"),
        pytest.param(3, 3, id="tokens-end-between-two-places-of-16-bytes"),
        pytest.param(4, 4, id="tokens-end-at-one"),
        pytest.param(48, 33, id="lanes-that-nobody-asked-for"),
    ],
)
def test_the_host_reads_what_the_device_left(lanes, count):
    results = filled(lanes)
    found = DecodeReadback(results, count, HostMemory()).wait()
    assert found["tokens"].dtype == np.int32 and found["tokens"].tolist() == list(range(count))
    assert found["recorded"].shape == (LAYERS, count, TOP_K)
    assert np.array_equal(found["recorded"], results.recorded_LBK[:, :count].numpy())


@pytest.mark.parametrize("lanes", range(1, 20))
def test_parts_begin_where_a_kernel_expects_them_and_do_not_overlap(lanes):
    results = DecodeResults.of(LAYERS, lanes, TOP_K, CPU)
    tokens, ids, packed = (part.data_ptr() for part in (results.tokens_B, results.recorded_LBK, results.packed))
    assert tokens == packed and (ids - packed) % ALIGNMENT == 0 and ids - packed >= 4 * lanes
    assert ids + results.recorded_LBK.numel() == packed + results.packed.numel() and results.recorded_LBK.is_contiguous()


def test_a_graph_s_next_step_does_not_reach_what_was_read():
    """Two steps under way, as the engine has them; a third takes the first one's place."""
    memory, results = HostMemory(), filled(2)
    first = DecodeReadback(results, 2, memory)
    results.tokens_B.add_(10)
    second = DecodeReadback(results, 2, memory)
    read = first.wait()
    results.tokens_B.add_(10)
    third = DecodeReadback(results, 2, memory)
    assert third._place is first._place and third._place is not second._place
    assert [found["tokens"].tolist() for found in (read, second.wait(), third.wait())] == [[0, 1], [10, 11], [20, 21]]
    assert not np.shares_memory(read["recorded"], first._place.array)


def test_each_size_has_places_of_its_own():
    memory = HostMemory()
    DecodeReadback(filled(1), 1, memory).wait()
    four = DecodeReadback(filled(4), 4, memory)
    assert len(four._place.array) == four._results.packed.numel()
    assert four.wait()["tokens"].tolist() == [0, 1, 2, 3]
