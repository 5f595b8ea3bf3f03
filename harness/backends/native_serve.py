"""Load our runtime for `harness serve`: a model's name and a precision in, everything a server needs out.

The load is NativeBackend's, so what is served is what is measured, with the same check of its MoE layers; a model that
fails it is not served.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fp4moe.errors import Fp4MoeError
from harness.backends.native import NativeBackend
from harness.backends.native_engine import NativeEngine
from harness.errors import HarnessError, UsageError
from harness.models import ModelSource
from harness.precisions import Precision
from harness.serve.generate import Limits
from harness.serve.text import Codec


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says beside the model."""

    precision: Precision
    torch_device: str
    max_slots: int
    max_waiting: int
    max_context: int | None
    seed: int
    cpu_threads: int
    implementation: str | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to be served; `codec` is None for random weights."""

    engine: NativeEngine
    codec: Codec | None
    limits: Limits
    details: dict


def load(source: ModelSource, options: ServeOptions, progress: Callable[[int, int, str], None]) -> Loaded:
    """Load and check; UsageError for what the user gave, HarnessError where the arithmetic is wrong."""
    backend = NativeBackend()
    try:
        facts = backend.load(
            source=asdict(source),
            precision=asdict(options.precision),
            torch_device=options.torch_device,
            seed=options.seed,
            cpu_threads=options.cpu_threads,
            allow_reference=True,
            implementation=options.implementation,
            progress=progress,
        )
    except Fp4MoeError as error:
        raise UsageError(f"{source.name} in {options.precision.id}: {error}") from None
    if not facts["check"]["passed"]:
        raise HarnessError(
            f"{source.name}: its MoE layers disagree with the float64 loop, so it is not served: {facts['check']}"
        )
    config = backend.model.config
    context = min(options.max_context or config.max_positions, config.max_positions)
    engine = NativeEngine(backend.model, max_slots=options.max_slots, max_context=context)
    eos = frozenset(config.eos_token_ids)
    limits = Limits(options.max_slots, options.max_waiting, context, config.vocab_size, eos)
    codec = Codec(Path(source.path)) if source.path else None
    names = {row["op"]: row["chosen"] for row in facts["implementation"]}
    details = {"precision": options.precision.label, "implementation": names, "weights": facts["weights"]}
    return Loaded(engine, codec, limits, details)
