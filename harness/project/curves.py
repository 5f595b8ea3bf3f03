"""Measured times of one MoE layer by number of tokens: what the projection is calibrated on.

In: data/calibration.json, which `python -m harness.project.export` writes from the committed records, and the layer times
of data/published.yaml. Out: Curve, one a (GPU, kernel, format). Nothing here computes a projection.
"""

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import yaml

EXPANDED = ("nvfp4", "mxfp4", "int4")
"""Weight formats that a kernel expands in registers before it multiplies, unless the tensor core takes them as they are."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measured layer."""

    tokens: int
    experts_hit: float
    us: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Times of one kernel and format on one GPU, with the ceilings of that run."""

    gpu: str
    kernel: str
    weights: str
    activations: str
    points: tuple[Point, ...]
    read_gb_s: float
    product_tflops: dict[str, float]
    """By kind of operands, the most that anything of that run reached: the library's product or a kernel's layer."""
    source: str
    is_stale: bool = False
    """The kernel's sources have changed since it was measured."""
    is_untuned: bool = False
    """Ran a default configuration where other GPUs have a tuned one."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kernel, self.weights, self.activations

    @property
    def label(self) -> str:
        return f"{self.kernel} {self.weights} x {self.activations}"

    @property
    def origin(self) -> str:
        """Where the times come from, as every projection that uses them says it."""
        stale = "; STALE: the kernel's sources have changed since" if self.is_stale else ""
        return f"layer times of {self.kernel} {self.weights} x {self.activations} measured on {self.gpu} ({self.source}{stale})"

    @property
    def expands(self) -> bool:
        """Whether instructions are spent on every weight, so that the SMs and not only the memory set the pace."""
        return self.weights in EXPANDED and self.activations not in EXPANDED


@cache
def data_file(name: str) -> dict:
    """A file of harness/data as plain data."""
    text = files("harness").joinpath("data", name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


@cache
def all_curves() -> tuple[Curve, ...]:
    """Every measured curve that ships, records first."""
    return with_published(data_file("calibration.json")["curves"])


def with_published(rows: Iterable[dict]) -> tuple[Curve, ...]:
    """Curves of rows as calibration.json has them, then those of published.yaml."""
    recorded = [curve_from(row) for row in rows]
    untuned = {(row["gpu"], row["kernel"], row["weights"]) for row in data_file("published.yaml")["untuned"]}
    everything = [*merged_widths(recorded), *_published()]
    return tuple(replace(c, is_untuned=(c.gpu, c.kernel, c.weights) in untuned) for c in everything)


def published_points(gpus: Container[str]) -> list[dict]:
    """Figures that others published for these GPUs, each marked as such: printed beside ranges, never computed with."""
    points = data_file("published.yaml")["points"]
    return [{"kind": "published by others"} | point for point in points if point["gpu"] in gpus]


def curve_from(row: dict) -> Curve:
    """A curve of calibration.json."""
    points = tuple(Point(*point) for point in row["points"])
    return Curve(**{key: row[key] for key in row if key != "points"}, points=points)


def _published() -> Iterable[Curve]:
    for block in data_file("published.yaml")["kernel_curves"]:
        for row in block["us"]:
            triples = zip(block["tokens"], block["experts_hit"], row["us"], strict=True)
            points = tuple(Point(int(t), float(hit), float(us)) for t, hit, us in triples)
            names = (block["gpu"], row["kernel"], row["weights"], row["activations"])
            yield Curve(*names, points, block["read_gb_s"], block["product_tflops"], block["source"])


def merged_widths(curves: Sequence[Curve]) -> list[Curve]:
    """The kernels `cuda-fragments-*` serve one layout, the fastest at each number of tokens: one curve."""
    kept = [curve for curve in curves if not curve.kernel.startswith("cuda-fragments-")]
    parts: dict[tuple, list[Curve]] = {}
    for curve in curves:
        if curve.kernel.startswith("cuda-fragments-"):
            parts.setdefault((curve.gpu, curve.weights, curve.activations, curve.source), []).append(curve)
    joined = []
    for members in parts.values():
        best: dict[int, Point] = {}
        for point in (p for curve in members for p in curve.points):
            known = best.get(point.tokens)
            best[point.tokens] = point if known is None or point.us < known.us else known
        points = tuple(best[tokens] for tokens in sorted(best))
        is_stale = any(curve.is_stale for curve in members)
        joined.append(replace(members[0], kernel="cuda-fragments", points=points, is_stale=is_stale))
    return [*joined, *kept]


def find_curves(key: tuple[str, str, str], curves: Iterable[Curve] | None = None) -> list[Curve]:
    """The curves of a (kernel, weights, activations), one a GPU: of several of a GPU the first."""
    by_gpu: dict[str, Curve] = {}
    for curve in all_curves() if curves is None else curves:
        if curve.key == key:
            by_gpu.setdefault(curve.gpu, curve)
    return list(by_gpu.values())
