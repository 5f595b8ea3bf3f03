"""Matrices joined for fused execution: gate above up, experts behind each other.

In: QuantizedTensors of one format. Out: one QuantizedTensor with exactly the same values; nothing is
requantized. Gate and up written by this package share their tensor scale. Where a checkpoint by others gives
them different ones, they are first made equal by moving a power of two between tensor scale and block scales,
if E4M3 holds the result exactly; otherwise the joined matrix keeps both as one tensor scale a row (see
layouts.py).

Shapes: [N, K] a matrix, [F, D] gate and up, [E, N, K] stacked.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fp4moe.errors import FormatError
from fp4moe.layouts import QuantizedTensor


def stack_gate_up(w1: QuantizedTensor, w3: QuantizedTensor) -> QuantizedTensor:
    """Gate [F, D] above up [F, D] -> [2F, D] with one tensor scale where that is exact, else one a row."""
    _check_alike((w1, w3))
    w1, w3 = _with_equal_tensor_scale(w1, w3)
    tensor_scale = w1.tensor_scale
    if tensor_scale is not None and (tensor_scale.ndim or not torch.equal(tensor_scale, w3.tensor_scale)):
        tensor_scale = torch.cat([_row_tensor_scale(w1), _row_tensor_scale(w3)])
    return QuantizedTensor(
        format=w1.format,
        method=w1.method,
        shape=(w1.shape[0] + w3.shape[0], w1.shape[1]),
        codes=torch.cat([w1.codes, w3.codes]),
        scales=None if w1.scales is None else torch.cat([w1.scales, w3.scales]),
        tensor_scale=tensor_scale,
    )


def split_rows(q: QuantizedTensor, num_first: int) -> tuple[QuantizedTensor, QuantizedTensor]:
    """[N, K] -> its first `num_first` rows and the rest; the inverse of `stack_gate_up`."""
    halves = []
    for rows in (slice(0, num_first), slice(num_first, None)):
        codes = q.codes[rows].contiguous()
        halves.append(
            replace(
                q,
                shape=(codes.shape[0], q.shape[1]),
                codes=codes,
                scales=None if q.scales is None else q.scales[rows].contiguous(),
                tensor_scale=q.tensor_scale[rows] if q.has_row_tensor_scales else q.tensor_scale,
            )
        )
    return halves[0], halves[1]


def stack_experts(experts: Sequence[QuantizedTensor]) -> QuantizedTensor:
    """E matrices [N, K] -> [E, N, K]; if one has a tensor scale a row, all get one."""
    stack = ExpertStack(len(experts))
    for expert in experts:
        stack.add(expert)
    return stack.stacked()


class ExpertStack:
    """What `stack_experts` does, given one expert at a time: none but the newest is held twice."""

    def __init__(self, num_experts: int) -> None:
        self._num_experts = num_experts
        self._first: QuantizedTensor | None = None
        self._tensor_scales: list[Tensor | None] = []

    def add(self, expert: QuantizedTensor) -> None:
        """The next expert [N, K]; FormatError where it is of another format or shape than the first."""
        if self._first is None:
            self._codes, self._scales = self._room(expert.codes), self._room(expert.scales)
            self._first = replace(expert, codes=self._codes[0], scales=None if self._scales is None else self._scales[0])
        _check_alike((self._first, expert))
        place = len(self._tensor_scales)
        self._codes[place].copy_(expert.codes)
        if self._scales is not None:
            self._scales[place].copy_(expert.scales)
        self._tensor_scales.append(expert.tensor_scale)

    def stacked(self) -> QuantizedTensor:
        """All of them, [E, N, K], after the last was added."""
        first, scales = self._first, self._tensor_scales
        if any(scale is not None and scale.ndim for scale in scales):
            scales = [scale if scale.ndim else scale.expand(first.shape[0]) for scale in scales]
        return QuantizedTensor(
            format=first.format,
            method=first.method,
            shape=(self._num_experts, *first.shape),
            codes=self._codes,
            scales=self._scales,
            tensor_scale=None if first.tensor_scale is None else torch.stack(scales),
        )

    def _room(self, part: Tensor | None) -> Tensor | None:
        return None if part is None else part.new_empty((self._num_experts, *part.shape))


def _check_alike(parts: Sequence[QuantizedTensor]) -> None:
    kinds = {(q.format, q.shape) for q in parts}
    if len(kinds) != 1:
        raise FormatError(f"stack: matrices must agree in format and shape (got {sorted(kinds)})")


def _row_tensor_scale(q: QuantizedTensor) -> Tensor:
    return q.tensor_scale if q.has_row_tensor_scales else q.tensor_scale.expand(q.shape[0])


def _with_equal_tensor_scale(a: QuantizedTensor, b: QuantizedTensor) -> tuple[QuantizedTensor, QuantizedTensor]:
    """Both unchanged unless a power of two moves one to the other's tensor scale exactly."""
    if a.tensor_scale is None or a.tensor_scale.ndim or b.tensor_scale.ndim:
        return a, b
    if torch.equal(a.tensor_scale, b.tensor_scale):
        return a, b
    for moved, target in ((b, a), (a, b)):
        ratio = moved.tensor_scale / target.tensor_scale
        scales = moved.scales.float() * ratio
        rounded = scales.to(torch.float8_e4m3fn)
        is_power_of_two = float(torch.frexp(ratio).mantissa) == 0.5 and torch.equal(
            target.tensor_scale * ratio, moved.tensor_scale
        )
        if is_power_of_two and torch.equal(rounded.float(), scales):
            same = replace(moved, scales=rounded, tensor_scale=target.tensor_scale)
            return (a, same) if moved is b else (same, b)
    return a, b
