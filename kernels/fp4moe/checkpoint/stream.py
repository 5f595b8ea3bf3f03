"""Tensors of a checkpoint read ahead to a device: several threads, bounded memory, any number of files.

In: opened Shards, the names in the order in which they will be asked for, a device. Out: tensors on it, bit for bit as
stored. A tensor is cut into blocks of BLOCK_BYTES; as many threads as cores (up to MOST_READERS) read them with plain
reads, since faults on a mapped file come one page and one thread at a time. For a GPU each thread has one pinned block, which
is copied over on a stream of its own beside what the GPU computes; host memory is then the blocks, whatever is loaded. For a
CPU the blocks are read to where they stay. At most AHEAD_BYTES are read before they are asked for, in host memory at most a
quarter of the largest file. Interprets nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import Tensor

from fp4moe.checkpoint.shards import Shards, StoredTensor
from fp4moe.errors import CheckpointError

BLOCK_BYTES = 8 * 2**20
MOST_READERS = 16
AHEAD_BYTES = 2**30
DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U8": torch.uint8,
}


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_readers() -> int:
    """Threads that read."""
    return min(MOST_READERS, max(2, num_cores()))


class StreamedShards:
    """What `Shards` gives, on `device` and read ahead. `close` it; one thread asks.

    out_of_turn: how many tensors were asked for that had not been announced next; each was waited for from its first byte.
    """

    def __init__(self, shards: Shards, names: Iterable[str], device: torch.device) -> None:
        self._shards, self._device = shards, torch.device(device)
        self._announced = deque(name for name in names if self._is_known(name))
        self._limit_bytes, self._ahead_bytes = AHEAD_BYTES, 0
        if self._device.type == "cpu":
            self._limit_bytes = min(AHEAD_BYTES, max(file.stat().st_size for file in shards.handles) // 4)
        self._under_way: dict[str, tuple[Tensor, list[Future]]] = {}
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._threads = ThreadPoolExecutor(num_readers(), "checkpoint reader")
        self._seats: SimpleQueue[_Seat] = SimpleQueue()
        for _ in range(num_readers()):
            self._seats.put(_Seat(self._stream))
        self.out_of_turn = 0

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """As `Shards.tensors`."""
        return self._shards.tensors

    def find(self, name: str) -> StoredTensor:
        """As `Shards.find`."""
        return self._shards.find(name)

    def metadata(self, name: str) -> dict[str, str]:
        """As `Shards.metadata`."""
        return self._shards.metadata(name)

    def read(self, name: str) -> Tensor:
        """The data of one tensor, on the device; CheckpointError where its file ends early or cannot be read."""
        stored = self.find(name)
        if not self._is_known(name):
            return self._shards.read(name).to(self._device)
        self._read_ahead()
        if name not in self._under_way:
            self.out_of_turn += 1
            if name in self._announced:
                self._announced.remove(name)
            self._start(name)
        flat, blocks = self._under_way.pop(name)
        for block in blocks:
            block.result()
        self._ahead_bytes -= flat.nbytes
        if self._stream is not None:  # its memory is the reading stream's: not to be reused while the reader's caller computes
            flat.record_stream(torch.cuda.current_stream(self._device))
        return flat.view(DTYPES[stored.dtype]).view(stored.shape)

    def close(self) -> None:
        """End the threads, close the files, give the reading stream's unused memory back."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._under_way.clear()
        while not self._seats.empty():
            self._seats.get().close()
        if self._stream is not None:
            torch.cuda.empty_cache()

    def _is_known(self, name: str) -> bool:
        return name in self.tensors and self.tensors[name].dtype in DTYPES

    def _read_ahead(self) -> None:
        """Start what is announced next, as far as the limit; at least one tensor, however large."""
        while self._announced and (not self._under_way or self._ahead_bytes < self._limit_bytes):
            name = self._announced.popleft()
            if name not in self._under_way:
                self._start(name)

    def _start(self, name: str) -> None:
        stored = self.find(name)
        with _on(self._stream):
            flat = torch.empty(stored.num_bytes, dtype=torch.uint8, device=self._device)
        places = range(stored.begin, stored.begin + stored.num_bytes, BLOCK_BYTES)
        pieces = zip(places, flat.split(BLOCK_BYTES), strict=True)
        blocks = [self._threads.submit(self._read_block, name, stored.file, *piece) for piece in pieces]
        self._under_way[name] = flat, blocks
        self._ahead_bytes += flat.nbytes

    def _read_block(self, name: str, file: Path, begin: int, out: Tensor) -> None:
        seat = self._seats.get()
        try:
            num_read = seat.read(file, begin, out)
        except OSError as error:
            raise CheckpointError(f"{file}: {name}: cannot be read ({error}); download the file again") from error
        finally:
            self._seats.put(seat)
        if num_read < out.nbytes:
            raise CheckpointError(
                f"{file}: {name}: cannot be read (the file ends at byte {begin + num_read}, the tensor does not); "
                "download the file again"
            )


class _Seat:
    """What a thread reads with: files opened for itself, since a file read by several guesses what comes next badly."""

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self._files: dict[Path, int] = {}
        self._stream = stream
        if stream is not None:
            self._pinned = torch.empty(BLOCK_BYTES, dtype=torch.uint8, pin_memory=True)
            self._copied = torch.cuda.Event(blocking=True)

    def read(self, file: Path, begin: int, out: Tensor) -> int:
        """Fill `out` from byte `begin` on; the bytes read, fewer where the file ends."""
        if file not in self._files:
            self._files[file] = os.open(file, os.O_RDONLY)
        if self._stream is None:
            return read_into(self._files[file], begin, out)
        pinned = self._pinned[: out.nbytes]
        num_read = read_into(self._files[file], begin, pinned)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            out.copy_(pinned, non_blocking=True)
            self._copied.record()
        self._copied.synchronize()
        return num_read

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


def read_into(descriptor: int, begin: int, out: Tensor) -> int:
    """Fill `out`, uint8 in host memory, from byte `begin` of an open file; the bytes read, fewer where the file ends."""
    view, num_read = memoryview(out.numpy()), 0
    while num_read < len(view) and (now := os.preadv(descriptor, [view[num_read:]], begin + num_read)):
        num_read += now
    return num_read


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager:
    return nullcontext() if stream is None else torch.cuda.stream(stream)
