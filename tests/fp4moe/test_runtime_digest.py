"""The hash of weights: bytes of short tensors, digests of the pieces of long ones, errors of the threads that hash."""

import hashlib

import pytest
import torch

from fp4moe.runtime import digest as module
from fp4moe.runtime.digest import WeightsDigest

SHORT, LONG = torch.arange(5, dtype=torch.float32), torch.arange(10, dtype=torch.int16)  # 20 bytes each


def data(tensor) -> bytes:
    return tensor.numpy().tobytes()


def test_a_short_tensor_counts_with_its_bytes_and_a_long_one_with_the_digests_of_its_pieces(monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 8)
    digest = WeightsDigest()
    digest.add("a", SHORT[:2])
    digest.add("b", LONG)
    expected = hashlib.sha256(b"a torch.float32 (2,)\n" + data(SHORT[:2]) + b"b torch.int16 (10,)\n")
    for piece in (LONG[:4], LONG[4:8], LONG[8:]):
        expected.update(hashlib.sha256(data(piece)).digest())
    assert digest.hexdigest() == expected.hexdigest()


def test_order_name_dtype_and_shape_count():
    def of(*named):
        digest = WeightsDigest()
        for name, tensor in named:
            digest.add(name, tensor)
        return digest.hexdigest()

    a, b = ("a", SHORT), ("b", LONG)
    others = [of(b, a), of(("b", SHORT), a), of(("a", SHORT.view(torch.int32)), b), of(("a", SHORT[None]), b), of(a)]
    assert of(a, b) == of(a, b) and len({of(a, b), *others}) == 6


def test_more_tensors_than_may_wait_keep_their_order():
    named = [(str(number), torch.tensor([number])) for number in range(3 * WeightsDigest.AHEAD)]
    digest, expected = WeightsDigest(), hashlib.sha256()
    for name, tensor in named:
        digest.add(name, tensor)
        assert len(digest._waiting) <= WeightsDigest.AHEAD
        expected.update(f"{name} torch.int64 (1,)\n".encode() + data(tensor))
    assert digest.hexdigest() == expected.hexdigest()


def test_an_error_of_a_thread_is_raised_where_the_hash_is_asked_for(monkeypatch):
    def fails(piece):
        raise MemoryError("no")

    monkeypatch.setattr(module, "_stored_bytes", fails)
    digest = WeightsDigest()
    digest.add("a", SHORT)
    with pytest.raises(MemoryError, match="no"):
        digest.hexdigest()
