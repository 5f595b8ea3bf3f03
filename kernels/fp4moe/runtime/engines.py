"""Which engine serves a model here: the GPU's, or the plain one that runs anywhere.

In: a loaded model, slots, context. Out: an engine (`submit`, `cancel`, `step`, ...). ENGINES is in order of preference; a row
that cannot run says why, and the reason goes into records. Imports an engine only when it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fp4moe.errors import EngineError
from fp4moe.runtime.config import MixtralConfig
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.select import Capability, Environment

_LEAST_CAPABILITY = 80
_MOST_SHARED_HEADS = 16
_LEAST_HEAD_DIM = 32


@dataclass(frozen=True, slots=True)
class EngineRow:
    """`refusal` gives the reason against a configuration on a capability with these tools; None where it runs."""

    name: str
    target: str
    note: str
    attention: str
    refusal: Callable[[MixtralConfig, Capability, Environment], str | None]

    def load(self) -> Any:
        """The class."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


def _gpu_refusal(config: MixtralConfig, capability: Capability, environment: Environment) -> str | None:
    if capability.number < _LEAST_CAPABILITY:
        return f"needs a CUDA GPU of sm_80 or newer, this device is {capability.name}"
    tools = environment.refusal(("triton", "cc"))
    if tools is not None:
        return tools
    if config.head_dim < _LEAST_HEAD_DIM or config.head_dim & (config.head_dim - 1):
        return f"needs a head_dim that is a power of two of at least {_LEAST_HEAD_DIM} (got {config.head_dim})"
    if config.num_heads // config.num_kv_heads > _MOST_SHARED_HEADS:
        shared = config.num_heads // config.num_kv_heads
        return f"needs at most {_MOST_SHARED_HEADS} query heads a key-value head (got {shared})"
    return None


ENGINES = (
    EngineRow(
        "gpu",
        "fp4moe.runtime.gpu.engine:GpuEngine",
        "CUDA graphs, packed prompts, nothing waits for the host",
        "prompts: FlashAttention of PyTorch; decoding: slot_attention (Triton)",
        _gpu_refusal,
    ),
    EngineRow(
        "plain",
        "fp4moe.runtime.engine:Engine",
        "plain torch, one prompt at a time, float32",
        "scaled_dot_product_attention of PyTorch, float32",
        lambda *_: None,
    ),
)
NAMES = tuple(row.name for row in ENGINES)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that is taken, and (name, reason) of those before it that are not."""

    row: EngineRow
    refused: tuple[tuple[str, str], ...]


def choose_engine(
    config: MixtralConfig, capability: Capability, environment: Environment, *, wanted: str | None = None
) -> EngineChoice:
    """The first row that runs; EngineError where the one that was asked for by name does not."""
    if wanted is not None and wanted not in NAMES:
        raise EngineError(f"engine: must be one of {', '.join(NAMES)} (got {wanted!r})")
    refused = []
    for row in ENGINES:
        reason = row.refusal(config, capability, environment)
        if reason is None and wanted in (None, row.name):
            return EngineChoice(row, tuple(refused))
        if row.name == wanted:
            raise EngineError(f"engine: {wanted} does not run here: it {reason}; leave it out to take what runs")
        refused.append((row.name, reason or f"runs here, but {wanted} was asked for"))
    raise AssertionError("the plain engine runs anywhere")


def engine_here(model: MixtralModel, *, wanted: str | None = None) -> EngineChoice:
    """The choice for a model where its weights lie."""
    return choose_engine(
        model.config, Capability.of_device(str(model.device)), Environment.of_this_machine(), wanted=wanted
    )


def make_engine(
    model: MixtralModel,
    *,
    max_slots: int,
    max_context: int,
    recorder: RoutingRecorder | None = None,
    wanted: str | None = None,
    use_graphs: bool = True,
) -> Any:
    """An engine for `model`. `use_graphs` is the GPU engine's and says nothing to the plain one."""
    row = engine_here(model, wanted=wanted).row
    options = {"use_graphs": use_graphs} if row.name == "gpu" else {}
    return row.load()(model, max_slots=max_slots, max_context=max_context, recorder=recorder, **options)
