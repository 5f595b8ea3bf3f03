"""vLLM as a backend of the harness, driven directly: loads one (model, precision) in its own process, measures cells.

Lives in a harness worker like the native backend and answers the same commands. The engine that scores with routed experts
is another one than the engine whose speed is taken: returning them costs time in every step.
"""

from pathlib import Path

import torch

from fp4moe.errors import CheckpointError, FormatError
from fp4moe.precision import Precision
from harness.backends.native_checks import read_config, read_text
from harness.backends.vllm import environment, quality, speed
from harness.backends.vllm.decided import engine_block, implementation_rows
from harness.backends.vllm.engine import NOT_ASKED, Engine, Launch, Sizes
from harness.backends.vllm.facts import layout_of
from harness.backends.vllm.memory import memory_metrics
from harness.backends.vllm.stored import StoredModel
from harness.backends.vllm.weights import prepare
from harness.errors import WorkerError
from harness.models import ModelSource
from harness.scenario.backends import VllmBackendSpec
from harness.workload.sweep import is_sweep, measure_sweep


class VllmBackend:
    """Holds one engine between commands."""

    def __init__(self) -> None:
        self.source: ModelSource | None = None
        self.sizes: Sizes | None = None
        self.on_cpu = True
        self._engine: Engine | None = None
        self._launch: Launch | None = None
        self._precision: Precision | None = None
        self._text: tuple | None = None

    def is_input_error(self, error: Exception) -> bool:
        """Whether the fault lies in what the user gave."""
        return isinstance(error, CheckpointError | FormatError)

    def load(self, *, backend, source, precision, torch_device, sizes, first_kind, progress, **_) -> dict:
        """Write the weights that vLLM will load, start it, and say what it decided."""
        spec, self.source = VllmBackendSpec.model_validate(backend), ModelSource(**source)
        self._precision, self.on_cpu = Precision(**precision), torch_device == "cpu"
        self.sizes = Sizes.of(sizes, self.source.max_positions)
        torch.set_num_threads(self.sizes.cpu_threads)  # of this process, which exports weights and hashes them
        found, missing = environment.find(spec)
        if found is None:
            raise WorkerError("no_vllm", missing)
        layout = layout_of(self._precision, spec)
        weights = prepare(self.source, self._precision, layout, lambda done, total: progress(done, total, "exporting"))
        self._launch = Launch(found, spec, weights, self.sizes, self.on_cpu)
        engine = self._engine_for(first_kind, progress)
        return {
            "implementation": implementation_rows(engine.decisions, engine.described["layers"]),
            "check": None,
            "weights": weights.block(self.source.weights),
            "engine": engine_block(engine.decisions, engine.described, engine.args),
        }

    def measure(self, *, cell, folder, seed, progress) -> dict:
        """One repeat of one cell."""
        if is_sweep(cell):
            return measure_sweep(cell, lambda one: self.measure(cell=one, folder=folder, seed=seed, progress=progress))
        engine = self._engine_for(cell["kind"], progress)
        if cell["kind"] == "heldout":
            result = quality.measure(self, engine, cell=cell, folder=Path(folder), progress=progress)
        else:
            result = speed.measure(self, engine, cell=cell, folder=Path(folder), seed=seed, progress=progress)
        stored_bytes = sum(self.stored().memory_bytes().values())
        result["metrics"] |= memory_metrics(engine.described, self.source, stored_bytes)
        # Another one than `load` started, where qualities want routed experts and speeds do without.
        return result | {"engine": engine_block(engine.decisions, engine.described, engine.args)}

    def close(self) -> None:
        """End vLLM."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def text(self):
        """(token ids, bytes a token) of the held-out text; None for random weights."""
        if self._text is None:
            self._text = read_text(self.source)
        return self._text

    def stored(self) -> StoredModel:
        """The model in this precision, as stored."""
        return StoredModel(read_config(self.source), self._precision)

    def _engine_for(self, kind: str, progress) -> Engine:
        """The engine at hand where it fits, else a new one: with routing for quality, without for speed."""
        wants_routing = self._launch.spec.routing and kind == "heldout"
        if self._engine is not None:
            refused = self._engine.described["routing_refused"]
            is_without_for_good = refused not in (None, NOT_ASKED)
            if is_without_for_good or (refused is None) == wants_routing:
                return self._engine
            self.close()
        self._engine = Engine.start(self._launch, wants_routing=wants_routing, progress=progress)
        return self._engine
