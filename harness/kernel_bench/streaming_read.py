"""A Triton kernel that reads and does as little else as it can: the best case of streaming weights.

In: a float32 tensor on a CUDA device. Out: callables by pattern, each reading it once. A persistent grid, four blocks a
multiprocessor; the sum of what a program read is kept, for a load whose value is unused would be removed. Needs Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import triton
import triton.language as tl

BLOCK = 4096
PROGRAMS_A_MULTIPROCESSOR = 4


@triton.jit
def _read(data, sums, num_blocks, BLOCK: tl.constexpr, UNROLL: tl.constexpr):
    """sums[program] = sum of the words that this program read, UNROLL blocks at a time."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    offsets = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.int32)
    for block in range(program * UNROLL, num_blocks, programs * UNROLL):
        for step in tl.static_range(UNROLL):
            words = data + (block + step) * BLOCK + offsets
            total ^= tl.load(words, eviction_policy="evict_first")
    tl.store(sums + program, tl.sum(total))


def streaming_read(data: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """`data`: a multiple of 4 * BLOCK words of 4 bytes, fewer than 2^31 (offsets are 32 bits)."""
    words = data.view(torch.int32)
    num_programs = PROGRAMS_A_MULTIPROCESSOR
    if data.is_cuda:
        num_programs *= torch.cuda.get_device_properties(data.device).multi_processor_count
    sums = torch.empty(num_programs, dtype=torch.int32, device=data.device)
    return {f"{unroll} blocks in flight": partial(_launch, words, sums, unroll) for unroll in (2, 4)}


def _launch(words: torch.Tensor, sums: torch.Tensor, unroll: int) -> torch.Tensor:
    _read[(len(sums),)](words, sums, words.numel() // BLOCK, BLOCK=BLOCK, UNROLL=unroll, num_warps=8)
    return sums
