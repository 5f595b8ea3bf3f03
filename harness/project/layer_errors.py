"""The error of one layer: predicted from another GPU, or from the rest of its own curve.

In: curves and a P. Out: LayerError rows. The target's own ceilings are not used: its data sheet times the shares that the
calibrating GPU's ceilings have of theirs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.project.curves import Curve, find_curves
from harness.project.gpus import gpu_spec
from harness.project.layer import Ceilings, LayerModel

DECODE_TOKENS = 128
"""Up to here a number of tokens counts as a decode step, beyond as a prefill."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """One layer predicted on `target` from `source` alone. `counts` is False where the two ran different things."""

    source: str
    target: str
    kernel: str
    weights: str
    tokens: int
    measured_us: float
    predicted_us: float
    counts: bool

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.weights}"

    @property
    def error_pct(self) -> float:
        return 100 * (self.predicted_us / self.measured_us - 1)


def mean_abs_pct(rows: Sequence) -> float:
    """Of rows with an `error_pct`, in percent."""
    return float(np.mean([abs(row.error_pct) for row in rows]))


def crossed_errors(source: str, target: str, curves: Iterable[Curve], *, sharpness: float) -> list[LayerError]:
    """Every layer of `target` whose kernel ran on `source` too, predicted from there."""
    pairs = measured_on_both(source, target, curves)
    return [row for near, far in pairs for row in _errors_of(near, far, sharpness)]


def measured_on_both(source: str, target: str, curves: Iterable[Curve]) -> Iterator[tuple[Curve, Curve]]:
    """The curves of each kernel and pair of formats on the two GPUs."""
    everything = list(curves)
    for key in dict.fromkeys(curve.key for curve in everything):
        pair = {curve.gpu: curve for curve in find_curves(key, everything)}
        if source in pair and target in pair:
            yield pair[source], pair[target]


def _errors_of(source: Curve, target: Curve, sharpness: float) -> list[LayerError]:
    model, spec = LayerModel(source, gpu_spec(source.gpu), sharpness=sharpness), gpu_spec(target.gpu)
    is_untuned = source.is_untuned or target.is_untuned
    is_same_code = not has_changed(source, target)

    def counts(tokens: int) -> bool:
        return is_same_code and not (is_untuned and tokens > DECODE_TOKENS // 2)

    return [
        LayerError(
            source.gpu, target.gpu, source.kernel, source.weights, p.tokens, p.us,
            model.predict(spec, p.tokens, p.experts_hit).us, counts(p.tokens),
        )
        for p in target.points
    ]  # fmt: skip


def has_changed(source: Curve, target: Curve) -> bool:
    """Whether one record is of today's sources of a kernel and the other of older ones: two programs, not one on two GPUs."""
    return source.is_stale != target.is_stale


def left_out_errors(curves: Iterable[Curve], *, sharpness: float) -> list[LayerError]:
    """Every layer of a curve but its first and last, predicted on its own GPU from the same curve without it."""
    rows = []
    for curve in curves:
        spec, own = gpu_spec(curve.gpu), Ceilings(curve.read_gb_s, curve.product_tflops)
        names = (spec.name, spec.name, curve.kernel, curve.weights)
        for place, point in enumerate(curve.points[1:-1], start=1):
            rest = replace(curve, points=curve.points[:place] + curve.points[place + 1 :])
            found = LayerModel(rest, spec, sharpness=sharpness).predict(spec, point.tokens, point.experts_hit, ceilings=own)
            rows.append(LayerError(*names, point.tokens, point.us, found.us, counts=True))
    return rows
