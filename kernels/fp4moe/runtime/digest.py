"""The hash by which two loaded models are known to have the same weights.

In: the tensors of a model with their names, in loading order, on any device. Out: a SHA-256 in hex. A tensor of up to
PIECE_BYTES counts with its bytes, a longer one with the SHA-256 of each of its pieces: they are hashed by several threads, for
one gets through 1 to 2 GB/s and disks are faster. Tensors on a GPU are read back through a pinned piece a thread.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import local

import torch
from torch import Tensor

from fp4moe.checkpoint.stream import num_cores

PIECE_BYTES = 8 * 2**20
MOST_HASHERS = 8


def num_hashers() -> int:
    """Threads that hash."""
    return min(MOST_HASHERS, num_cores())


class WeightsDigest:
    """Hash of every stored byte with its name, dtype and shape, in loading order; the same on every device and layout.

    Taken while the next tensors are read. At most AHEAD tensors wait for it, so that little is held beside the model.
    """

    AHEAD = 16

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting: deque[tuple[str, list[Future]]] = deque()
        self._threads = ThreadPoolExecutor(num_hashers(), "weights digest")
        self._own = local()

    def add(self, name: str, tensor: Tensor) -> None:
        """The next tensor; it must not be written to before `hexdigest`."""
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
        written = None
        if flat.device.type == "cuda":  # the threads' streams wait for what has still to write it
            written = torch.cuda.current_stream(flat.device).record_event()
        hash_one = _stored_bytes if flat.numel() <= PIECE_BYTES else _sha256
        pieces = [self._threads.submit(self._hash, hash_one, piece, written) for piece in flat.split(PIECE_BYTES)]
        self._waiting.append((f"{name} {tensor.dtype} {tuple(tensor.shape)}\n", pieces))
        while len(self._waiting) > self.AHEAD:
            self._take()

    def hexdigest(self) -> str:
        """The hash of what was added; call it once, after the last."""
        while self._waiting:
            self._take()
        self._threads.shutdown()
        return self._digest.hexdigest()

    def _take(self) -> None:
        head, pieces = self._waiting.popleft()
        self._digest.update(head.encode())
        for piece in pieces:
            self._digest.update(piece.result())

    def _hash(self, hash_one, piece: Tensor, written: torch.cuda.Event | None) -> bytes:
        return hash_one(piece if written is None else self._on_host(piece, written))

    def _on_host(self, piece: Tensor, written: torch.cuda.Event) -> Tensor:
        """The piece in this thread's pinned memory, until its next."""
        if not hasattr(self._own, "pinned"):
            self._own.stream = torch.cuda.Stream(piece.device)
            self._own.pinned = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
        pinned = self._own.pinned[: piece.numel()]
        with torch.cuda.stream(self._own.stream):
            self._own.stream.wait_event(written)
            pinned.copy_(piece, non_blocking=True)
            self._own.stream.record_event(torch.cuda.Event(blocking=True)).synchronize()
        return pinned


def _stored_bytes(piece: Tensor) -> bytes:
    return piece.numpy().tobytes()


def _sha256(piece: Tensor) -> bytes:
    return hashlib.sha256(piece.numpy().data).digest()


class SeedDigest:
    """In the place of `WeightsDigest` for weights that follow from a seed: reading 25 GB back from a GPU says no more."""

    def __init__(self, identity: str) -> None:
        self._hex = hashlib.sha256(identity.encode()).hexdigest()

    def add(self, name: str, tensor: Tensor) -> None:
        """Nothing: the identity holds it."""

    def hexdigest(self) -> str:
        """The hash of the identity."""
        return self._hex
