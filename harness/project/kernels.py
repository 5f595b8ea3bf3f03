"""Which kernel runs a pair of formats on a GPU, engine by engine, and whose measured curve stands for it.

In: a GPU. Out: Candidate rows that run there, in order of preference. The native rows repeat `fp4moe.select.table`
(tests hold the two against each other); vLLM's follow the order of its own selection, of which Marlin, FP8 and BF16 were
measured. A kernel that nobody has measured borrows the terms of one without expansion, and says so.
"""

from dataclasses import dataclass

from harness.project.curves import Curve, all_curves, find_curves
from harness.project.gpus import GpuSpec, gpu_spec
from harness.project.layer import LayerModel
from harness.project.sharpness import shipped_sharpness

_FP8_STAND_IN = "never measured: the terms of {name} FP8 x FP8 with FP4's bytes and rate"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a pair of formats. `least` is the lowest capability, `only` restricts it to families."""

    engine: str
    kernel: str
    weights: str
    activations: str
    least: float
    only: tuple[str, ...] = ()
    measured_as: tuple[str, str, str] | None = None
    stand_in: str = ""

    def runs_on(self, gpu: GpuSpec) -> bool:
        return float(gpu.capability) >= self.least and (not self.only or gpu.family in self.only)

    @property
    def curve_key(self) -> tuple[str, str, str]:
        return self.measured_as or (self.kernel, self.weights, self.activations)


_FP4_CORES = ("sm_100", "sm_103", "sm_120")
CANDIDATES = (
    *(Candidate("native", "cuda-fragments", w, "bf16", 9.0, ("sm_90",)) for w in ("nvfp4", "mxfp4")),
    *(
        Candidate(
            "native", "triton-w4a4", w, w, 10.0, _FP4_CORES, ("triton-grouped", "fp8", "fp8"),
            _FP8_STAND_IN.format(name="triton-grouped"),
        )
        for w in ("nvfp4", "mxfp4")
    ),
    *(Candidate("native", "triton-grouped", w, "bf16", 8.0) for w in ("nvfp4", "mxfp4", "bf16")),
    Candidate("native", "triton-grouped", "fp8", "fp8", 8.9),
    Candidate(
        "vllm", "flashinfer-cutlass", "nvfp4", "nvfp4", 10.0, _FP4_CORES, ("vllm-fp8", "fp8", "fp8"),
        _FP8_STAND_IN.format(name="vllm-fp8"),
    ),
    Candidate("vllm", "vllm-marlin", "nvfp4", "bf16", 8.0),
    Candidate("vllm", "vllm-fp8", "fp8", "fp8", 8.9),
    Candidate("vllm", "vllm-bf16", "bf16", "bf16", 8.0),
)  # fmt: skip


def candidates_on(gpu: GpuSpec) -> list[Candidate]:
    """Rows that run on this GPU."""
    return [row for row in CANDIDATES if row.runs_on(gpu)]


def curve_for(candidate: Candidate, gpu: GpuSpec, curves: tuple[Curve, ...] | None = None) -> Curve | None:
    """The measured curve to project from: this GPU's own, else the one with the most bandwidth.

    More bandwidth leaves less of a time to the memory, so that what the SMs need shows better.
    """
    found = find_curves(candidate.curve_key, all_curves() if curves is None else curves)
    own = [curve for curve in found if curve.gpu == gpu.name]
    return (own or sorted(found, key=lambda curve: -curve.read_gb_s) or [None])[0]


def layer_model(candidate: Candidate, curve: Curve) -> LayerModel:
    """The curve taken apart, with the candidate's own bytes and rate where it borrows the terms."""
    model = LayerModel(curve, gpu_spec(curve.gpu), sharpness=shipped_sharpness().value)
    return model.standing_in_for(candidate.weights, candidate.activations) if candidate.stand_in else model
