"""What vLLM could run here, before it is started: which precisions, on which device, and what stands against it.

In: spec, model, precision, device. Out: `Facts` as a plan wants them. vLLM's own choice of kernels is not predicted: it is
read from its log once it runs. Imports no torch.
"""

from harness.backends.vllm import environment
from harness.device import Device
from harness.models import ModelSource
from harness.plan import Facts
from harness.precisions import Precision
from harness.scenario.backends import VllmBackendSpec

LAYOUTS = {"nvfp4": "modelopt-nvfp4", "mxfp4": "ct-mxfp4", "fp8": "ct-fp8"}
"""Weight format -> the layout of fp4moe.checkpoint.export that vLLM loads."""

NEEDS = {("nvfp4", "bf16"): (7, 5), ("mxfp4", "bf16"): (8, 0), ("fp8", "fp8"): (8, 9)}
"""Formats -> the least compute capability of vLLM 0.24's kernels (Marlin; Marlin; w8a8)."""


def layout_of(precision: Precision, spec: VllmBackendSpec) -> str | None:
    """How weights in `precision` are written for vLLM; None: BF16 as they are."""
    if precision.weights == "bf16":
        return None
    return spec.layout if precision.weights == "nvfp4" else LAYOUTS[precision.weights]


def facts(spec: VllmBackendSpec, source: ModelSource, precision: Precision, device: Device, native: Facts) -> Facts:
    """The bytes of the weights are those of the native prediction: the same formats are stored."""
    problem = _problem(spec, source, precision, device)
    return Facts(native.memory_bytes, (), problem)


def _problem(spec: VllmBackendSpec, source: ModelSource, precision: Precision, device: Device) -> str | None:
    _, missing = environment.find(spec) if device.is_attached else (None, None)
    if missing:
        return missing
    if spec.is_served and source.path is None:
        return "vLLM: random weights come without a tokenizer, which its server needs; measure them with mode: offline"
    return unsupported(precision, device)


def unsupported(precision: Precision, device: Device) -> str | None:
    """Why vLLM cannot run this precision on this device; None when it can be tried."""
    if precision.is_baseline:
        return None
    pair = (precision.weights, precision.activations)
    if pair == ("nvfp4", "nvfp4"):
        return "vLLM: NVFP4 activations need calibrated input scales, which an export of these weights has not"
    if pair not in NEEDS:
        known = ", ".join(f"{weights} x {activations}" for weights, activations in NEEDS)
        return f"vLLM has no experts in {precision.label}; it takes bf16 x bf16, {known}"
    if not device.is_gpu:
        return f"vLLM's {precision.weights.upper()} experts need a CUDA GPU; this machine has none. BF16 runs on a CPU"
    least = NEEDS[pair]
    if tuple(map(int, device.capability.split("."))) < least:
        return f"vLLM's {precision.weights.upper()} experts need sm_{least[0]}{least[1]} or newer; this is {device.capability}"
    return None
