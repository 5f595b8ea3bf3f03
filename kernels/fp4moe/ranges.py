"""Named ranges of host time, for profilers: off by default, and then one comparison and one shared object a range.

In: `with ranges.range("attention", layer=3): ...` anywhere in the runtime or around it. Out: each range that ends goes to
every sink that is switched on: a `Collector` (names and times in this process), NVTX (nvtx.py: seen by nsys) and PyTorch's
profiler (`record_function`, so that kernels can be joined to the range that launched them). Measures nothing on a device and
waits for nothing: a payload is what the host knows. Ranges nest, one thread at a time; they are ended in reverse order.

Example: with `decode step` from 0 to 100 ns and `attention` from 10 to 40 inside it, a Collector holds, in order of their end,
Ended("attention", 10, 40, 1, {"layer": 3}) and Ended("decode step", 0, 100, 0, {"tokens": 8}).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

NAMES = (
    "prefill", "decode step", "score", "embed", "layer", "norm", "attention", "route", "experts", "permute", "gate-up GEMM",
    "down GEMM", "combine", "head", "sampling", "expert load", "schedule", "prepare", "graph replay", "graph capture",
    "readback", "wait for the device", "routing record", "emit",
)  # fmt: skip
"""The runtime's vocabulary: one name a kind of work, its place (layer, step) in the payload. Others are allowed."""


class Ended(NamedTuple):
    """One range that ended. Times are `time.perf_counter_ns`; depth 0 is outermost."""

    name: str
    start_ns: int
    end_ns: int
    depth: int
    payload: dict[str, Any]


class Started(NamedTuple):
    """A range that overlaps others, while it is open: the sinks that took it and what each gave for it."""

    name: str
    tokens: tuple[tuple[Any, Any], ...]


class Sink(Protocol):
    """Where ranges go: `push` returns what `pop` is given back. A sink with `start` and `end` takes overlapping ranges too."""

    def push(self, name: str, payload: dict[str, Any]) -> Any: ...

    def pop(self, token: Any) -> None: ...


class Collector:
    """Keeps every range that ended while it was on, in order of their end."""

    __slots__ = ("_depth", "_rows")

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self._depth = 0

    @property
    def ended(self) -> list[Ended]:
        """A copy of what there is so far."""
        return [Ended(*row) for row in self._rows]

    def push(self, name: str, payload: dict[str, Any]) -> tuple:
        depth = self._depth
        self._depth = depth + 1
        return name, perf_counter_ns(), depth, payload

    def pop(self, token: tuple) -> None:
        end_ns = perf_counter_ns()
        name, start_ns, depth, payload = token
        self._depth = depth
        self._rows.append((name, start_ns, end_ns, depth, payload))


class TorchProfiler:
    """`torch.profiler.record_function`: costs microseconds a range even when no profiler runs, so switch it on only for one."""

    def __init__(self) -> None:
        from torch.autograd.profiler import record_function

        self._record_function: Callable[[str], Any] = record_function

    def push(self, name: str, payload: dict[str, Any]) -> Any:
        entered = self._record_function(name)
        entered.__enter__()
        return entered

    def pop(self, token: Any) -> None:
        token.__exit__(None, None, None)


class Both:
    """Two sinks as one, so that a range always has exactly one to tell."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Sink, second: Sink) -> None:
        self._first, self._second = first, second

    def push(self, name: str, payload: dict[str, Any]) -> Any:
        return self._first.push(name, payload), self._second.push(name, payload)

    def pop(self, token: Any) -> None:
        self._second.pop(token[1])
        self._first.pop(token[0])


class _Range:
    """A range while it is open."""

    __slots__ = ("_name", "_payload", "_sink", "_token")

    def __init__(self, name: str, payload: dict[str, Any], sink: Sink) -> None:
        self._name, self._payload, self._sink = name, payload, sink

    def __enter__(self) -> _Range:
        self._token = self._sink.push(self._name, self._payload)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._sink.pop(self._token)

    def note(self, **payload: Any) -> None:
        """Add to the payload what is known only inside the range (not seen by NVTX, which takes it at the start)."""
        self._payload.update(payload)


class _Off:
    """What `range` gives when no sink is on."""

    __slots__ = ()

    def __enter__(self) -> _Off:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def note(self, **payload: Any) -> None:
        """Nothing listens."""


_OFF = _Off()
_sinks: tuple[Sink, ...] = ()
_sink: Sink | None = None
"""All of `_sinks` as one, None when there is none."""


def range(name: str, **payload: Any) -> _Range | _Off:
    """A context manager for one range. `payload`: plain numbers and strings that the host knows; `layer=`, `tokens=`, ..."""
    return _OFF if _sink is None else _Range(name, payload, _sink)


def start(name: str, **payload: Any) -> Started:
    """Begin a range that need not nest (a request among others); to be ended by `end`."""
    return Started(name, tuple((sink, sink.start(name, payload)) for sink in _sinks if hasattr(sink, "start")))


def end(started: Started) -> None:
    """End it in the sinks that took it."""
    for sink, token in started.tokens:
        sink.end(token)


def is_on() -> bool:
    """Whether any sink listens; to skip work that only a payload needs."""
    return _sink is not None


def add(sink: Sink) -> None:
    """Switch a sink on, from the next range that starts."""
    _set((*_sinks, sink))


def remove(sink: Sink) -> None:
    """Switch it off; ranges that are open still end in it. ValueError when it is not on."""
    if sink not in _sinks:
        raise ValueError("this sink is not on")
    _set(tuple(other for other in _sinks if other is not sink))


def _set(sinks: tuple[Sink, ...]) -> None:
    global _sinks, _sink
    _sinks, _sink = sinks, reduce(Both, sinks) if sinks else None


@contextmanager
def collected() -> Iterator[Collector]:
    """A Collector that is on inside the `with`."""
    collector = Collector()
    add(collector)
    try:
        yield collector
    finally:
        remove(collector)
