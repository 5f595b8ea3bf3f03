"""This host as loading meets it: how fast files are read by themselves, and how much memory a call takes.

In: files, a call. Out: seconds, bytes. Linux only: the page cache is emptied of single files with posix_fadvise, memory is read
from /proc.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread, local
from typing import TypeVar

import torch

from fp4moe.checkpoint.stream import BLOCK_BYTES, num_readers, read_into

T = TypeVar("T")
_SAMPLE_S = 0.004
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def drop_from_cache(files: Sequence[Path]) -> None:
    """The next read of `files` comes from the disk; nothing happens on file systems that keep no page cache of their own."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def file_system(folder: Path) -> str:
    """The kind of file system that holds `folder`, as /proc/mounts has it: "tmpfs" is memory, not a disk."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(len(Path(point).parts), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(holding)[1]


def plain_read_seconds(files: Sequence[Path]) -> float:
    """Seconds to read all bytes of `files` and do nothing with them, by the blocks and threads of loading."""
    blocks = [(file, begin) for file in files for begin in range(0, file.stat().st_size, BLOCK_BYTES)]
    own, opened = local(), []

    def read(file: Path, begin: int) -> None:
        if not hasattr(own, "files"):
            own.files, own.buffer = {}, torch.empty(BLOCK_BYTES, dtype=torch.uint8)
        if file not in own.files:
            own.files[file] = os.open(file, os.O_RDONLY)
            opened.append(own.files[file])
        read_into(own.files[file], begin, own.buffer)

    start = time.perf_counter()
    with ThreadPoolExecutor(num_readers()) as threads:
        list(threads.map(read, *zip(*blocks, strict=True)))
    seconds = time.perf_counter() - start
    for descriptor in opened:
        os.close(descriptor)
    return seconds


def with_peak_bytes(call: Callable[[], T]) -> tuple[T, int]:
    """(what `call` returns, bytes by which this process' resident memory grew at most while it ran)."""
    before, done, peaks = resident_bytes(), Event(), [0]

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            peaks.append(max(peaks.pop(), resident_bytes()))

    is_reset = _reset_high_water()
    thread = Thread(target=sample)
    thread.start()
    try:
        result = call()
    finally:
        done.set()
        thread.join()
    peak = max(peaks[0], resident_bytes(), _high_water_bytes() if is_reset else 0)
    return result, max(0, peak - before)


def resident_bytes() -> int:
    """Memory of this process now, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _reset_high_water() -> bool:
    """Whether the kernel starts its high-water mark again; where it may not, samples are all there is."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
