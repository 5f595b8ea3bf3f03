"""Small traces by hand for the tests of profiles: a decode step of two layers, with kernels where a test wants them."""

import gzip
from pathlib import Path

from harness.profile.spans import Kernel, Span, Trace

FIXTURE = Path(__file__).parent / "data" / "nsys-2022.4.sqlite.gz"
"""A real export of nsys 2022.4.2 over 3 prefills and decode steps of pocket-mixtral, emptied of what tells of the machine."""


def step(start: int = 0) -> list[Span]:
    """1000 ns: 2 layers of 400, each attention 100 and experts 250 (of which gate-up GEMM 150); sampling 100."""
    spans = [Span("decode step", start, start + 1000)]
    for layer in range(2):
        at = start + 50 + 400 * layer
        spans += [
            Span("layer", at, at + 400),
            Span("attention", at, at + 100),
            Span("experts", at + 120, at + 370),
            Span("gate-up GEMM", at + 130, at + 280),
        ]
    return [*spans, Span("sampling", start + 860, start + 960)]


def kernels(start: int = 0, graph: int | None = None) -> list[Kernel]:
    """Three a layer (attention, gate-up, combine), 10, 40 and 20 ns, launched inside their ranges; 5 ns between them."""
    found, at = [], start + 2000
    for layer in range(2):
        for name, offset, length in (("attn", 20, 10), ("gemm", 140, 40), ("sum", 300, 20)):
            launch = start + 50 + 400 * layer + offset
            found.append(Kernel(name, at, at + length, launch, 7, graph))
            at += length + 5
    return found


def trace(spans: list[Span], found: list[Kernel] | None = None, launches: int | None = None, source: str = "test") -> Trace:
    count = len(found or ()) if launches is None else launches
    return Trace(source, tuple(spans), None if found is None else tuple(found), count, no_kernels="no GPU")


def fixture(folder: Path) -> Path:
    """The real export, unpacked."""
    path = folder / "real.sqlite"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    return path
