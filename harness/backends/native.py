"""Our own runtime, `fp4moe`, as a backend: loads one (model, precision), measures cells.

Called inside a worker process with plain JSON data (see harness.worker.protocol). Speed and quality come from the same
loaded weights and the same selected implementations. Nothing is written but samples, through `RunWriter.store`.
"""

from pathlib import Path

import torch

from fp4moe.errors import CheckpointError, FormatError, SelectionError
from fp4moe.precision import Precision
from fp4moe.runtime import RandomWeights, load_model, predict_memory_bytes
from fp4moe.runtime.verify import check_moe_layer
from fp4moe.select import Capability, choose, explain_peers
from harness.backends import native_quality, native_speed
from harness.backends.native_checks import check_source, read_config, read_text, stored_problem
from harness.collect.memory import peak_rss_bytes
from harness.collect.values import measured, missing
from harness.models import ModelSource

OPERATIONS = ("route", "gate_up", "down")
CHECK_TOKENS = 17
PEER_ENGINE = "vllm-main"


class NativeBackend:
    """Holds one loaded model between commands."""

    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.model = None
        self.source: ModelSource | None = None
        self.check: dict | None = None
        self._text: tuple | None = None

    def is_input_error(self, error: Exception) -> bool:
        """Whether the fault lies in what the user gave (a checkpoint), not in the run."""
        return isinstance(error, CheckpointError | FormatError)

    def facts(self, *, source, precisions, capability, slots, context, window_tokens, allow_reference, progress) -> list[dict]:
        """For each precision of a model: memory by cause and the choice a kernel, without loading weights.

        A checkpoint that the user named is read through (shapes, NaN) first.
        """
        source = ModelSource(**source)
        wanted = [Precision(**precision) for precision in precisions]
        stored = check_source(source, wanted, window_tokens)
        rows = []
        for index, precision in enumerate(wanted):
            memory = predict_memory_bytes(read_config(source), precision, max_slots=slots, max_context=context)
            choices, problem = _choices(precision, capability, allow_reference)
            problem = problem or stored_problem(stored, precision)
            peer = _peer(precision, capability)
            rows.append({"memory_bytes": memory, "choices": choices, "problem": problem, "peer": peer})
            progress(index + 1, len(wanted), "checking")
        return rows

    def load(self, *, source, precision, torch_device, seed, cpu_threads, allow_reference, progress) -> dict:
        """Load weights, quantize them, and check the MoE layers against a float64 loop."""
        torch.set_num_threads(cpu_threads)
        self.source = ModelSource(**source)
        weights = Path(self.source.path) if self.source.path else RandomWeights(read_config(self.source), seed)
        self.model = load_model(
            weights,
            Precision(**precision),
            device=torch_device,
            progress=lambda done, total: progress(done, total, "loading"),
            allow_reference=allow_reference,
        )
        self._require_finite_logits()
        self.check = self._check(seed)
        return {
            "implementation": [_choice_row(choice) for choice in self.model.choices],
            "check": self.check,
            "weights": {"sha256": self.model.weights_sha256, "source": self.source.weights},
        }

    def measure(self, *, cell, folder, seed, progress) -> dict:
        """One repeat of one cell: metrics, experts, samples, reasons for the verdict."""
        if cell["kind"] == "heldout":
            result = native_quality.measure(self, cell=cell, folder=Path(folder), progress=progress)
        else:
            result = native_speed.measure(self, cell=cell, folder=Path(folder), seed=seed, progress=progress)
        result["metrics"] |= self._memory_metrics()
        return result

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
        """The worst layer's disagreement with the float64 loop, over seeded activations of unit variance."""
        generator = torch.Generator().manual_seed(seed)
        layers = sorted({0, self.model.config.num_layers // 2, self.model.config.num_layers - 1})
        inputs = torch.randn(CHECK_TOKENS, self.model.config.hidden_size, generator=generator)
        checks = [check_moe_layer(self.model, layer, inputs.to(self.model.device)) for layer in layers]
        worst = max(checks, key=lambda check: check.relative_error / check.bound)
        return {
            "relative_error": worst.relative_error,
            "bound": worst.bound,
            "passed": all(check.passed for check in checks),
            "against": worst.against,
        }

    def _memory_metrics(self) -> dict:
        by_cause = self.model.memory_bytes()
        metrics = {f"{name}_bytes": measured(f"{name}_bytes", size, 1) for name, size in by_cause.items()}
        metrics["weight_bytes"] = measured("weight_bytes", sum(by_cause.values()), 1)
        if self.model.device.type == "cpu":
            metrics["process_peak_rss_bytes"] = measured("process_peak_rss_bytes", peak_rss_bytes(), 1)
        else:
            reason = "on a GPU the device's memory is what counts; host memory is not reported"
            metrics["process_peak_rss_bytes"] = missing("process_peak_rss_bytes", reason)
        return metrics


def _choices(precision: Precision, capability: str, allow_reference: bool) -> tuple[list[dict], str | None]:
    rows = []
    for operation in OPERATIONS:
        try:
            choice = choose(
                operation,
                precision.weights,
                precision.activations,
                Capability.parse(capability),
                allow_reference=allow_reference,
            )
        except SelectionError as error:
            return rows, str(error)
        rows.append(_choice_row(choice))
    return rows, None


def _peer(precision: Precision, capability: str) -> dict | None:
    """What vLLM would take for these formats here, by its own rules; None where they say nothing of the format."""
    try:
        choice = explain_peers(precision.weights, precision.activations, Capability.parse(capability), engine=PEER_ENGINE)
    except SelectionError:
        return None
    chosen = choice.chosen
    return {
        "engine": PEER_ENGINE,
        "chosen": None if chosen is None else chosen.name,
        "computes": None if chosen is None else chosen.computes,
        "refused": [{"name": name, "reason": reason} for name, reason in choice.refused],
    }


def _choice_row(choice) -> dict:
    return {
        "op": choice.op,
        "chosen": choice.chosen.name,
        "is_reference": choice.chosen.name == "reference",
        "refused": [{"name": name, "reason": reason} for name, reason in choice.refused],
    }
