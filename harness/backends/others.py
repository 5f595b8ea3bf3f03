"""Backends beside our runtime in process: which worker class each takes, and what it says before it is started.

Dispatch by kind and mode. Imports no torch: plans are made with it.
"""

from harness.backends.vllm import facts as vllm_facts
from harness.device import Device
from harness.models import ModelSource
from harness.plan import Facts
from harness.precisions import Precision

WORKERS = {
    ("native", False): "native",
    ("native", True): "served",
    ("vllm", False): "vllm",
    ("vllm", True): "served",
    ("openai", True): "served",
}
"""(kind, whether it is served over HTTP) -> key of harness.backends.BACKENDS."""


def find_spec(scenario, name: str):
    """The scenario's backend of that name; None where a cell names a class of its own (tests, plug-ins)."""
    return next((spec for spec in scenario.backends if spec.name == name), None)


def worker_backend(scenario, name: str) -> str:
    """What a worker is started with."""
    spec = find_spec(scenario, name)
    return name if spec is None else WORKERS[(spec.kind, spec.is_served)]


def other_facts(spec, source: ModelSource, precision: Precision, device: Device, native: Facts) -> Facts:
    """What the backend would need here, and why it cannot run, if so."""
    if spec.kind == "openai":
        return Facts({}, (), None, is_elsewhere=True)
    if spec.kind == "native":
        return Facts(native.memory_bytes, native.choices, native.problem, native.peer)
    return vllm_facts.facts(spec, source, precision, device, native)
