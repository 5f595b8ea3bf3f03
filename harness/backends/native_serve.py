"""Load our runtime for `harness serve`: a model's name and a precision in, everything a server needs out.

The load is NativeBackend's, so what is served is what is measured, with the same check of its MoE layers; a model that
fails it is not served.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

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
    except torch.OutOfMemoryError as error:
        raise HarnessError(f"{source.name} in {options.precision.id}: does not fit ({_first_line(error)})") from None
    if not facts["check"]["passed"]:
        raise HarnessError(
            f"{source.name}: its MoE layers disagree with the float64 loop, so it is not served: {facts['check']}"
        )
    config = backend.model.config
    engine, context = _engine(backend, options)
    eos = frozenset(config.eos_token_ids)
    limits = Limits(options.max_slots, options.max_waiting, context, config.vocab_size, eos)
    codec = Codec(Path(source.path)) if source.path else None
    names = {row["op"]: row["chosen"] for row in facts["implementation"]}
    details = {"precision": options.precision.label, "implementation": names, "weights": facts["weights"]}
    details["engine"] = facts["engine"]
    return Loaded(engine, codec, limits, details)


def _engine(backend, options: ServeOptions) -> tuple[NativeEngine, int]:
    """(engine, its context); the cache of keys and values is reserved here."""
    limit = backend.model.config.max_positions
    context = options.max_context or limit
    if context > limit:
        raise UsageError(f"--max-context {context}: must be at most {limit}, the positions that this model was made for")
    try:
        return NativeEngine(backend, max_slots=options.max_slots, max_context=context), context
    except (torch.OutOfMemoryError, MemoryError) as error:
        size = f"--max-slots {options.max_slots} x --max-context {context}"
        raise HarnessError(f"{size}: their keys and values do not fit; lower one ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
