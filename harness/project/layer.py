"""Time of one MoE layer on a GPU from the same kernel's times on another: memory, issue and product terms.

In: a measured Curve, P, the GPU to predict, tokens and experts hit. Out: microseconds.

    T = fixed + (memory ** P + sm ** P) ** (1 / P)
    memory = bytes of the experts hit / (read ceiling * share)
    sm     = what the SMs need, whatever the memory does: instructions that expand weights, products

`memory` scales with the bandwidth, `sm` with SMs x clock where instructions set it and with the tensor rate where products
do. What a kernel takes beyond its memory time on the calibrating GPU is `sm` if it expands weights (its instructions are paid
for every weight), else `fixed` (launch, ramp, tail). That split is why more bandwidth gives Marlin 3 % and BF16 45 %.
P says how sharply the slower of the two wins: 1 adds them, infinity takes the larger. One number for all kernels and GPUs,
fitted in sharpness.py.
Shapes: one layer of Mixtral-8x7B; other shapes scale with weights of an expert.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness.kernel_bench.formats import BITS_A_WEIGHT, PRODUCT_OF
from harness.project.curves import Curve, Point
from harness.project.gpus import GpuSpec

STREAMING_SHARE = 0.96
"""Share of a GPU's read ceiling that kernels without expansion reach: BF16 and FP8 layers .92 to .98 on H100, mean .96."""
FEW_TOKENS = 16
"""Up to here the number of experts hit, not of tokens, sets a layer's time."""
ALL_HIT = 0.97
MIXTRAL_EXPERT_WEIGHTS = 3 * 4096 * 14336
"""Weights of one expert of the layer that curves are of."""
MIXTRAL_EXPERTS = 8


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What sets the work of a layer."""

    expert_weights: int = MIXTRAL_EXPERT_WEIGHTS
    num_experts: int = MIXTRAL_EXPERTS
    top_k: int = 2

    def flops(self, tokens: float) -> float:
        return 2.0 * tokens * self.top_k * self.expert_weights


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a GPU reads and multiplies: measured in a run, or its data sheet times shares measured elsewhere."""

    read_gb_s: float
    product_tflops: dict[str, float]


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Microseconds of a layer by term. `us` is the estimate; `limit_us` assumes full overlap and no fixed cost."""

    us: float
    memory_us: float
    sm_us: float
    fixed_us: float
    limit_us: float

    @property
    def sum_us(self) -> float:
        """No overlap at all: the slow end of a range."""
        return self.fixed_us + self.memory_us + self.sm_us


def combine(memory_us: float, sm_us: float, sharpness: float) -> float:
    """The p-norm of the two; scaled so that large powers do not overflow."""
    top = max(memory_us, sm_us)
    if top <= 0 or math.isinf(sharpness):
        return max(top, 0.0)
    return top * ((memory_us / top) ** sharpness + (sm_us / top) ** sharpness) ** (1 / sharpness)


class LayerModel:
    """One curve, taken apart into its terms. `spec` is the GPU that it was measured on, `sharpness` the P of the model."""

    def __init__(self, curve: Curve, spec: GpuSpec, *, sharpness: float) -> None:
        self.curve, self.spec, self.sharpness = curve, spec, sharpness
        self.bytes_an_expert = MIXTRAL_EXPERT_WEIGHTS * BITS_A_WEIGHT[curve.weights] / 8
        kind = PRODUCT_OF[curve.activations]
        self.kind = kind if kind in curve.product_tflops else "bf16"
        self.target_bytes, self.target_kind = self.bytes_an_expert, self.kind
        self.share, self.fixed_us = (STREAMING_SHARE, 0.0) if curve.expands else self._line()
        few = [p for p in curve.points if p.tokens <= FEW_TOKENS]
        full = [p for p in curve.points if p.experts_hit >= ALL_HIT * MIXTRAL_EXPERTS] or list(curve.points)
        self._hits, self._sm_by_hits = _mean_by([(p.experts_hit, self._sm(p)) for p in few or full])
        self._tokens, self._sm_by_tokens = _mean_by([(float(p.tokens), self._sm(p)) for p in full])

    def standing_in_for(self, weights: str, activations: str) -> "LayerModel":
        """The same terms with other bytes and another tensor rate: for a kernel that nobody has measured."""
        other = LayerModel(self.curve, self.spec, sharpness=self.sharpness)
        other.target_bytes = MIXTRAL_EXPERT_WEIGHTS * BITS_A_WEIGHT[weights] / 8
        other.target_kind = PRODUCT_OF[activations]
        return other

    def _line(self) -> tuple[float, float]:
        """Share of the read ceiling and fixed cost of a kernel without expansion: time over bytes of few tokens, a line.

        The slope is no faster than the ceiling, the intercept not below zero, the line nowhere above a point of more tokens:
        a kernel that is faster at 64 tokens than at 32 does not wait for memory at 32.
        """
        few = [point for point in self.curve.points if point.tokens <= 2 * FEW_TOKENS]
        ceiling_us = self.bytes_an_expert / self.curve.read_gb_s / 1e3
        hits, times = np.array([p.experts_hit for p in few]), np.array([p.us for p in few])
        varies = len(set(hits)) > 1
        slope = max(float(np.polyfit(hits, times, 1)[0]), ceiling_us) if varies else float(times.mean() / hits.mean())
        fixed = max(0.0, float(np.mean(times - slope * hits)))
        if fixed == 0.0:
            slope = max(ceiling_us, float(np.sum(times * hits) / np.sum(hits**2)))
        for point in self.curve.points:
            if point.tokens > 2 * FEW_TOKENS:
                slope = max(ceiling_us, min(slope, point.us / point.experts_hit))
                fixed = max(0.0, min(fixed, point.us - slope * point.experts_hit))
        return ceiling_us / slope, fixed

    def _memory(self, experts_hit: float) -> float:
        return experts_hit * self.bytes_an_expert / (self.curve.read_gb_s * self.share) / 1e3

    def _product(self, tokens: float) -> float:
        return LayerShape().flops(tokens) / self.curve.product_tflops[self.kind] / 1e6

    def _sm(self, point: Point) -> float:
        """The SM-side time that explains a measured point."""
        memory, over = self._memory(point.experts_hit), point.us - self.fixed_us
        if not self.curve.expands and point.tokens <= 2 * FEW_TOKENS:
            return self._product(point.tokens)
        if over <= memory:
            return self._product(point.tokens)
        p = self.sharpness
        ratio = over / memory
        return over if math.isinf(p) or ratio > 1e3 else memory * (ratio**p - 1) ** (1 / p)

    def sm_us(self, tokens: float, experts_hit: float) -> float:
        """On the calibrating GPU, interpolated: by experts hit for few tokens, else by tokens (log-log)."""
        by_hits = float(np.interp(experts_hit, self._hits, self._sm_by_hits))
        if experts_hit < self._hits[0]:
            by_hits *= experts_hit / self._hits[0]
        if tokens <= FEW_TOKENS:
            return by_hits
        many = _interpolate_log(tokens, self._tokens, self._sm_by_tokens)
        return many * by_hits / self._sm_by_hits[-1] if experts_hit < self._hits[-1] and self._sm_by_hits[-1] else many

    def predict(
        self,
        target: GpuSpec,
        tokens: float,
        experts_hit: float,
        *,
        shape: LayerShape | None = None,
        ceilings: Ceilings | None = None,
    ) -> LayerTime:
        """The layer's time on `target`; with `ceilings` measured there where they are known."""
        shape = shape or LayerShape()
        found = ceilings or self.ceilings_of(target)
        size = shape.expert_weights / MIXTRAL_EXPERT_WEIGHTS
        spread = MIXTRAL_EXPERTS / shape.num_experts  # the curve's experts hit that stand for as large a part of the layer
        bytes_hit = experts_hit * self.target_bytes * size
        memory = bytes_hit / (found.read_gb_s * self.share) / 1e3
        sm = self.sm_us(tokens, experts_hit * spread) / spread * size * self._sm_scale(target, tokens, experts_hit * spread)
        fixed = self.fixed_us * self.spec.boost_ghz / target.boost_ghz
        rate = found.product_tflops.get(self.target_kind) or found.product_tflops["bf16"]
        limit = max(bytes_hit / found.read_gb_s / 1e3, shape.flops(tokens) / rate / 1e6)
        return LayerTime(max(limit, fixed + combine(memory, sm, self.sharpness)), memory, sm, fixed, limit)

    def ceilings_of(self, target: GpuSpec) -> Ceilings:
        """The data sheet of `target` times the shares of their data sheets that the calibrating run's ceilings had."""
        read = target.read_gb_s * self.curve.read_gb_s / self.spec.read_gb_s
        shares = {kind: rate / self.spec.product_tflops[kind] for kind, rate in self.curve.product_tflops.items()}
        rates = target.product_tflops.items()
        return Ceilings(read, {kind: rate * shares.get(kind, shares["bf16"]) for kind, rate in rates})

    def _sm_scale(self, target: GpuSpec, tokens: float, experts_hit: float) -> float:
        """SM-side time on `target` over that on the calibrating GPU, by the part of it that is products."""
        issue = self.spec.issue_rate / target.issue_rate
        there = target.product_tflops.get(self.target_kind) or target.product_tflops["bf16"]
        product = self.spec.product_tflops[self.kind] / there
        sm = self.sm_us(tokens, experts_hit)
        part = min(1.0, self._product(tokens) / sm) if sm > 0 else 1.0
        return (1 - part) * issue + part * product


def _mean_by(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """x ascending without repeats, mean of y at each."""
    xs = np.array(sorted({x for x, _ in pairs}))
    return xs, np.array([np.mean([y for x, y in pairs if x == want]) for want in xs])


def _interpolate_log(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Piecewise linear in both logarithms; beyond the last point in proportion, before the first constant."""
    if x >= xs[-1]:
        return float(ys[-1] * x / xs[-1])
    safe = np.maximum(ys, 1e-9)
    return float(np.exp(np.interp(math.log(max(x, 1e-9)), np.log(xs), np.log(safe))))
