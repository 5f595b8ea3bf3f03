"""Quantizers use nothing that another device would round otherwise."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fp4moe.formats import WEIGHT_FORMATS
from fp4moe.quantize import quantize_weight
from fp4moe.quantize.exact import divide, sum_in_order

CASES = [pytest.param(name, method, id=f"{name}-{method}") for name, fmt in WEIGHT_FORMATS.items() for method in fmt.methods]


class DivisionsByNumbers(TorchDispatchMode):
    """Collects what a GPU would do by multiplying with a rounded reciprocal."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_division = function.overloadpacket in (torch.ops.aten.div, torch.ops.aten.div_)
        if is_division and not isinstance(args[1], torch.Tensor) and abs(math.frexp(args[1])[0]) != 0.5:  # no power of two
            self.found.append(args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "method"), CASES)
def test_no_division_by_a_python_number(name, method):
    weights = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(1))
    with DivisionsByNumbers() as seen:
        quantize_weight(weights, name, method)
    assert seen.found == []


def test_the_watch_sees_such_a_division():
    with DivisionsByNumbers() as seen:
        torch.ones(3) / 7.0
        torch.ones(3).div_(7)
        divide(torch.ones(3), 7.0)
    assert seen.found == [7.0, 7]


def test_divide_rounds_once():
    x = torch.arange(1, 1000, dtype=torch.float32)
    assert (divide(x, 2688.0) == (x.double() / 2688).float()).all()


def test_sum_in_order_adds_halves():
    x = torch.tensor([[1e8, 1.0, -1e8, 2.0]])
    assert sum_in_order(x).item() == 3.0
