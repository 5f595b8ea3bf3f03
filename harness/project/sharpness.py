"""P, how sharply the slower of memory and SMs wins: fitted to the measured layers of all GPUs, or of all but one.

In: curves. Out: Sharpness. The model that ships has the P of every measured GPU, which data/calibration.json holds with its
source; predicting a GPU as if nobody had measured it takes the P of the others (`sharpness_without`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

from harness.project.curves import Curve, all_curves, data_file, find_curves
from harness.project.layer_errors import LayerError, crossed_errors, left_out_errors, mean_abs_pct

SHARPNESSES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, float("inf"))
CROSSED = "least mean error of every layer predicted from another GPU"
LEFT_OUT = "least mean error of its own layers, each left out of its curve"


@dataclass(frozen=True, slots=True)
class Sharpness:
    """P, the GPUs whose layers it was fitted to, and by what."""

    value: float
    fitted_on: tuple[str, ...]
    by: str

    @property
    def source(self) -> str:
        """As every projection that uses it says it."""
        return f"sharpness {self.value:g} of memory against SMs: fitted on {', '.join(self.fitted_on)} ({self.by})"

    def to_json(self) -> dict:
        """A row of calibration.json; JSON has no infinity, so that is the text "inf"."""
        value = self.value if self.value < float("inf") else "inf"
        return {"value": value, "fitted_on": list(self.fitted_on), "by": self.by}


def shipped_sharpness() -> Sharpness:
    """Of every measured GPU, as data/calibration.json has it."""
    row = data_file("calibration.json")["sharpness"]
    return Sharpness(float(row["value"]), tuple(row["fitted_on"]), row["by"])


@cache
def sharpness_without(gpu: str) -> Sharpness:
    """Fitted to all measured GPUs but this one: what its prediction may know."""
    return fit_sharpness([curve for curve in all_curves() if curve.gpu != gpu])


def fit_sharpness(curves: Sequence[Curve]) -> Sharpness:
    """The P of SHARPNESSES with the least error: from GPU to GPU where kernels ran on several, else within one.

    From GPU to GPU is what a projection does and where P shows, for the balance of memory and SMs changes there. Within one
    GPU (`best_sharpness`) only the number of tokens changes it, which says little of P and leans low.
    """
    gpus = dict.fromkeys(curve.gpu for curve in curves)

    def crossed(sharpness: float) -> list[LayerError]:
        pairs = [crossed_errors(*pair, curves, sharpness=sharpness) for pair in permutations(gpus, 2)]
        return [row for rows in pairs for row in rows if row.counts]

    if rows := crossed(SHARPNESSES[0]):
        return Sharpness(_least(crossed), tuple(dict.fromkeys(row.source for row in rows)), CROSSED)
    ours = todays(curves)
    return Sharpness(best_sharpness(ours), tuple(dict.fromkeys(curve.gpu for curve in ours)), LEFT_OUT)


def best_sharpness(curves: Sequence[Curve]) -> float:
    """The P of SHARPNESSES with which left-out layers are the least wrong: all that the records of one GPU say of it.

    It leans low: layers between two left ones bend upwards, which a small P and a true knee both explain.
    """
    return _least(lambda sharpness: left_out_errors(curves, sharpness=sharpness))


def _least(errors_at: Callable[[float], Sequence[LayerError]]) -> float:
    return min(SHARPNESSES, key=lambda sharpness: mean_abs_pct(errors_at(sharpness)))


def todays(curves: Iterable[Curve]) -> list[Curve]:
    """Curves of today's kernels, one a GPU, kernel and pair of formats."""
    everything = list(curves)
    found = [curve for key in dict.fromkeys(curve.key for curve in everything) for curve in find_curves(key, everything)]
    return [curve for curve in found if not curve.is_stale]
