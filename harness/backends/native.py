"""Our own runtime, `fp4moe`, as a backend: loads one (model, precision), measures cells.

Called inside a worker process with plain JSON data (see harness.worker.protocol). Speed and quality come from the same
loaded weights and the same selected implementations. Nothing is written but samples, through `RunWriter.store`.
"""

from pathlib import Path

import torch

from fp4moe.errors import CheckpointError, FormatError
from fp4moe.precision import Precision
from fp4moe.runtime import (
    EngineChoice,
    RandomWeights,
    check_moe_layer,
    checked_layers,
    checked_tokens,
    choose_engine,
    engine_here,
    load_model,
    moe_shape,
    predict_memory_bytes,
)
from fp4moe.runtime.gpu.memory import predict_gpu_bytes
from fp4moe.runtime.gpu.schedule import STEP_TOKENS
from harness.backends import native_profile, native_quality, native_speed
from harness.backends.native_checks import check_source, read_config, read_text, stored_problem
from harness.backends.native_engines import NativeEngines
from harness.backends.native_score import NativeScorer
from harness.backends.selection import Place, choice_row, choices, implementation_for, peer_row
from harness.collect.device_memory import device_memory
from harness.collect.memory import peak_rss_bytes
from harness.collect.values import measured, missing
from harness.models import ModelSource
from harness.workload.sweep import is_sweep, measure_sweep

CHECK_TOKENS = 17
KV_CACHE = {"dtype": "bf16", "layout": "reserved for the longest request of every slot"}
"""Both engines of ours store keys and values so."""


class NativeBackend:
    """Holds one loaded model between commands."""

    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.model = None
        self.source: ModelSource | None = None
        self.check: dict | None = None
        self._text: tuple | None = None
        self.engines: NativeEngines | None = None
        self._scorer: NativeScorer | None = None

    def is_input_error(self, error: Exception) -> bool:
        """Whether the fault lies in what the user gave (a checkpoint), not in the run."""
        return isinstance(error, CheckpointError | FormatError)

    def facts(
        self,
        *,
        source,
        precisions,
        capability,
        gpu,
        is_attached,
        slots,
        context,
        window_tokens,
        allow_reference,
        implementation,
        progress,
    ) -> list[dict]:
        """For each precision of a model: memory by cause and the choice a kernel, without loading weights.

        A checkpoint that the user named is read through (shapes, NaN) first.
        """
        source = ModelSource(**source)
        wanted = [Precision(**precision) for precision in precisions]
        stored = check_source(source, wanted, window_tokens)
        config, place = read_config(source), Place.of(capability, gpu, is_attached=is_attached)
        limits = {"allow_reference": allow_reference, "implementation": implementation}
        rows = []
        for index, precision in enumerate(wanted):
            formats = precision.weights, precision.activations
            chosen, problem = choices(*formats, shape=moe_shape(config), place=place, **limits)
            memory = predicted_bytes(config, precision, chosen, place, (slots, context))
            problem = problem or stored_problem(stored, precision)
            peer = peer_row(*formats, place)
            rows.append({"memory_bytes": memory, "choices": chosen, "problem": problem, "peer": peer})
            progress(index + 1, len(wanted), "checking")
        return rows

    def load(
        self, *, source, precision, torch_device, seed, cpu_threads, allow_reference, progress, implementation=None
    ) -> dict:
        """Load weights, quantize and pack them, and check the MoE layers against a float64 loop."""
        torch.set_num_threads(cpu_threads)
        self.source = ModelSource(**source)
        config, precision = read_config(self.source), Precision(**precision)
        weights = Path(self.source.path) if self.source.path else RandomWeights(config, seed)
        self.model = load_model(
            weights,
            precision,
            device=torch_device,
            progress=lambda done, total: progress(done, total, "loading"),
            allow_reference=allow_reference,
            implementation=implementation_for(precision.weights, precision.activations, implementation),
            keep_rows=checked_layers(config.num_layers),
        )
        self.engines, self._scorer = NativeEngines(self.model), NativeScorer(self.model)
        self._require_finite_logits()
        self.check = self._check(seed)
        return {
            "implementation": [choice_row(choice) for choice in self.model.choices],
            "check": self.check,
            "weights": {"sha256": self.model.weights_sha256, "source": self.source.weights},
            "engine": native_engine_facts(engine_here(self.model)),
        }

    def measure(self, *, cell, folder, seed, progress) -> dict:
        """One repeat of one cell: metrics, experts, samples, reasons for the verdict."""
        if is_sweep(cell):
            return measure_sweep(cell, lambda one: self.measure(cell=one, folder=folder, seed=seed, progress=progress))
        if cell["kind"] == "heldout":
            result = native_quality.measure(self, cell=cell, folder=Path(folder), progress=progress)
        else:
            result = native_speed.measure(self, cell=cell, folder=Path(folder), seed=seed, progress=progress)
        result["metrics"] |= self._memory_metrics()
        return result

    def profile(self, *, cell, folder, seed, passes, progress) -> dict:
        """Passes over one `requests` cell with listeners on its ranges; see native_profile."""
        return native_profile.profile(self, cell=cell, folder=Path(folder), seed=seed, passes=passes, progress=progress)

    def score(self, tokens, recorder=None):
        """Logits of whole windows by the arithmetic of the engine that serves."""
        return self._scorer(tokens, recorder)

    def predicted_bytes(self, slots: int, context: int) -> dict[str, int]:
        """By cause, for an engine of this size: what `plan` says of the scenario's largest, of one cell."""
        engine, sizes = engine_here(self.model).row.name, {"max_slots": slots, "max_context": context}
        layout = next(choice.layout for choice in self.model.choices if choice.op == "experts")
        return _predicted(self.model.config, self.model.precision, engine, layout, sizes)

    def text(self):
        """(token ids, bytes a token) of the held-out text under this model's tokenizer; None for random weights."""
        if self._text is None:
            self._text = read_text(self.source)
        return self._text

    def _require_finite_logits(self) -> None:
        """Weights can be finite and still too large for the arithmetic; such a model has neither quality nor speed."""
        tokens = torch.arange(CHECK_TOKENS, device=self.model.device).unsqueeze(0) % self.model.config.vocab_size
        if not bool(self.model.score(tokens).isfinite().all()):
            place = self.source.path or f"{self.source.name} (random weights)"
            raise CheckpointError(
                f"{place}: must give finite logits, and gives NaN or infinity in {self.model.precision.id}; "
                "its weights are too large for float32 arithmetic"
            )

    def _check(self, seed: int) -> dict:
        """The worst disagreement with the float64 loop, over seeded activations of unit variance.

        Three layers, each with a number of tokens for every implementation that some number takes.
        """
        tokens = checked_tokens(self.model, CHECK_TOKENS)
        checks = []
        for count in tokens:
            generator = torch.Generator().manual_seed(seed)
            inputs = torch.randn(count, self.model.config.hidden_size, generator=generator).to(self.model.device)
            checks += [check_moe_layer(self.model, layer, inputs) for layer in checked_layers(self.model.config.num_layers)]
        worst = max(checks, key=lambda check: check.relative_error / check.bound)
        return {
            "relative_error": worst.relative_error,
            "bound": worst.bound,
            "passed": all(check.passed for check in checks),
            "against": worst.against,
            "tokens": list(tokens),
        }

    def _memory_metrics(self) -> dict:
        by_cause = self.model.memory_bytes()
        metrics = {f"{name}_bytes": measured(f"{name}_bytes", size, 1) for name, size in by_cause.items()}
        metrics |= device_memory(self.model.device)
        metrics["weight_bytes"] = measured("weight_bytes", sum(by_cause.values()), 1)
        if self.model.device.type == "cpu":
            metrics["process_peak_rss_bytes"] = measured("process_peak_rss_bytes", peak_rss_bytes(), 1)
        else:
            reason = "on a GPU the device's memory is what counts; host memory is not reported"
            metrics["process_peak_rss_bytes"] = missing("process_peak_rss_bytes", reason)
        return metrics


def predicted_bytes(config, precision: Precision, chosen: list[dict], place: Place, sizes: tuple[int, int]) -> dict[str, int]:
    """By cause, for the engine that would serve there; `sizes` are slots and context."""
    engine = choose_engine(config, place.capability, place.environment).row.name
    layout = next((row["layout"] for row in chosen if row["op"] == "experts"), None)
    return _predicted(config, precision, engine, layout, {"max_slots": sizes[0], "max_context": sizes[1]})


def _predicted(config, precision: Precision, engine: str, layout: str | None, sizes: dict[str, int]) -> dict[str, int]:
    if engine == "plain" or layout is None:
        return predict_memory_bytes(config, precision, **sizes)
    return predict_gpu_bytes(config, precision, layout=layout, step_tokens=STEP_TOKENS, **sizes)


def native_engine_facts(choice: EngineChoice) -> dict:
    """Which engine of ours serves and why not the ones before it, in the form of the other backends' `engine` block."""
    passed_over = [{"name": name, "reason": reason} for name, reason in choice.refused]
    return {
        "name": f"fp4moe {choice.row.name} engine",
        "note": choice.row.note,
        "attention": {"chosen": choice.row.attention, "candidates": [], "passed_over": passed_over},
        "kv_cache": dict(KV_CACHE),
    }
