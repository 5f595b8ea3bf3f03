"""Continuous batching on a GPU: the interface of ../engine.py, with a step always under way while the host reads the last.

In: `submit` and `cancel` between steps. Out: one `StepResult` a `step`: what a prompt step or a decode step gave. A step is
planned from counts (schedule.py) and launched before the one before it is read, so the device never waits for the host; a
request that turns out to have ended by an end token costs one token that is thrown away. Greedy tokens are those of the
reference where BF16 operands leave the best logit ahead. Single-threaded, prints nothing.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.errors import EngineError
from fp4moe.runtime.gpu.attention import DECODE_KERNEL, library_for
from fp4moe.runtime.gpu.passes import DecoderPasses
from fp4moe.runtime.gpu.schedule import STEP_TOKENS, PromptStep, Run, Schedule
from fp4moe.runtime.gpu.steps import Launched, Launcher
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.runtime.request import Request, StepResult, check_request

AHEAD = 2
"""Steps under way at once: one that runs and one behind it."""


class GpuEngine:
    """Serves one model; see ../engine.py for what the arguments and `request_numbers` mean.

    step_tokens: most prompt tokens of a step; longer prompts go in stretches, with no decoding in between.
    use_graphs: decode steps as CUDA graphs; without them every kernel is launched by the host, as a profiler wants it.
    """

    name = "gpu"

    def __init__(
        self,
        model: MixtralModel,
        *,
        max_slots: int,
        max_context: int,
        recorder: RoutingRecorder | None = None,
        step_tokens: int = STEP_TOKENS,
        use_graphs: bool = True,
    ) -> None:
        limit = model.config.max_positions
        if max_slots < 1 or not 2 <= max_context <= limit or step_tokens < 1:
            raise EngineError(
                f"engine: must have max_slots >= 1, step_tokens >= 1 and 2 <= max_context <= {limit}, the model's positions "
                f"(got {max_slots}, {step_tokens} and {max_context})"
            )
        self._model, self._max_context = model, max_context
        self._recorder = recorder
        with torch.inference_mode():
            passes = DecoderPasses(model, max_context=max_context)
            self._launcher = Launcher(passes, max_slots=max_slots, max_context=max_context, use_graphs=use_graphs)
            step_tokens = min(step_tokens, max_slots * max_context)
            if model.device.type == "cuda":
                self._launcher.warm_up(step_tokens)
        self._schedule = Schedule(max_slots, step_tokens)
        self._under_way: deque[Launched] = deque()
        self._live: dict[str, Run] = {}
        self._failed: deque[EngineError] = deque()
        self._num_steps = 0
        self._last_end_ns = 0
        self.request_numbers: dict[str, int] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._live or self._under_way or self._failed)

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes held for keys and values, in use or not."""
        return self._launcher.cache.nbytes

    @property
    def facts(self) -> dict[str, str | int]:
        """What computes a step beside the experts, for records."""
        graphs = self._launcher.graphs
        return {
            "engine": self.name,
            "prompt_attention": library_for(self._model.device, self._model.config.head_dim),
            "decode_attention": DECODE_KERNEL,
            "num_graphs": 0 if graphs is None else len(graphs),
            "step_tokens": self._schedule.step_tokens,
        }

    def record_into(self, recorder: RoutingRecorder | None) -> None:
        """Record from here on, and number requests and steps anew; EngineError while a request is under way."""
        if self.has_work:
            raise EngineError("engine: record_into() needs an engine without requests; step until has_work is False")
        self._recorder, self._num_steps = recorder, 0
        self.request_numbers = {}

    @torch.inference_mode()
    def impose_routing(self, imposed_RLK: Tensor | None) -> None:
        """Send every token to the experts of the next row [L, K] of a table, whatever its router says; None ends it.

        Meant for random weights, whose own routing means nothing. EngineError for ids that are no experts of the model, and
        while a request is under way: graphs are captured anew, which writes to slots.
        """
        if self.has_work:
            raise EngineError("engine: impose_routing() needs an engine without requests; step until has_work is False")
        config = self._model.config
        if imposed_RLK is not None:
            wanted = (config.num_layers, config.top_k)
            is_valid = tuple(imposed_RLK.shape[1:]) == wanted and len(imposed_RLK) > 0
            if not is_valid or not 0 <= int(imposed_RLK.min()) <= int(imposed_RLK.max()) < config.num_experts:
                raise EngineError(
                    f"imposed routing: must be expert ids 0 to {config.num_experts - 1} of shape "
                    f"[rows, {wanted[0]}, {wanted[1]}] (got {tuple(imposed_RLK.shape)})"
                )
        self._launcher.impose(imposed_RLK)

    def submit(self, request: Request) -> None:
        """Queue a request; EngineError, without any effect, when it can never be served."""
        if request.request_id in self.request_numbers:
            raise EngineError(f"request {request.request_id!r}: request_id must be new to this engine (submitted before)")
        check_request(request, max_context=self._max_context, vocab_size=self._model.config.vocab_size)
        run = Run(request, len(self.request_numbers))
        self.request_numbers[request.request_id] = run.number
        self._live[request.request_id] = run
        self._schedule.waiting.append(run)

    def cancel(self, request_id: str) -> None:
        """Drop a waiting or running request; its slot is free at once. EngineError when it is neither."""
        if request_id not in self._live:
            raise EngineError(f"request {request_id!r}: must be waiting or running to be cancelled; it is neither")
        self._schedule.drop(self._live.pop(request_id))

    @torch.inference_mode()
    def step(self) -> StepResult:
        """What the oldest step under way gave, with the next one launched behind it.

        EngineError when there is nothing to do; also for a request that was dropped because its logits were NaN, or for the
        requests of a step that found no memory. The engine goes on with the others.
        """
        if self._failed:
            raise self._failed.popleft()
        if not self.has_work:
            raise EngineError("engine: step() needs a waiting or running request; check has_work before")
        while len(self._under_way) < AHEAD:
            with ranges.range("schedule"):
                step = self._schedule.next_step()
            if step is None:
                break
            self._under_way.append(self._launch(step))
        if not self._under_way:  # every request that was left has been cancelled
            raise EngineError("engine: step() found nothing to serve")
        return self._read(self._under_way.popleft())

    def _launch(self, step) -> Launched:
        is_prompt = isinstance(step, PromptStep)
        tokens = step.num_tokens if is_prompt else len(step.runs)
        number = self._num_steps + len(self._under_way)
        try:
            with ranges.range("prefill" if is_prompt else "decode step", step=number, tokens=tokens):
                return self._launcher.launch(step)
        except torch.OutOfMemoryError as error:
            for run in step.runs:
                self._live.pop(run.request.request_id, None)
                self._schedule.drop(run)
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info(self._model.device)
            names = ", ".join(run.request.request_id for run in step.runs[:5])
            raise EngineError(
                f"engine: the GPU has no memory left for a step of {len(step.runs)} requests ({names}); {free / 1e9:.2f} of "
                f"{total / 1e9:.2f} GB are free; they are dropped. Give the engine fewer slots, a shorter context or a smaller "
                "step_tokens"
            ) from error

    def _read(self, launched: Launched) -> StepResult:
        with ranges.range("wait for the device"):
            arrays = launched.readback.wait()
        end_ns = time.perf_counter_ns()
        with ranges.range("routing record"):
            self._record(launched, arrays["recorded"])
        with ranges.range("emit"):
            return self._result(launched, arrays.get("tokens"), end_ns)

    def _result(self, launched: Launched, tokens: np.ndarray | None, end_ns: int) -> StepResult:
        """Give the tokens to their requests; `tokens` is None where no prompt ended in the step."""
        emitted, finished = self._emit(launched.runs, [] if tokens is None else tokens.tolist())
        index, start_ns = self._num_steps, max(launched.launch_ns, self._last_end_ns)
        self._num_steps, self._last_end_ns = index + 1, end_ns
        num_tokens = launched.step.num_tokens if launched.is_prompt else len(launched.runs)
        num_requests = len(launched.step.runs)
        return StepResult(index, launched.phase, start_ns, end_ns, num_tokens, num_requests, emitted, finished)

    def _emit(self, runs: tuple[Run, ...], tokens: list[int]) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
        emitted, finished = [], []
        for run, token in zip(runs, tokens, strict=True):
            if run.is_over:
                continue
            request_id = run.request.request_id
            if token < 0:
                self._fail(run)
                continue
            run.num_emitted += 1
            emitted.append((request_id, token))
            is_end = not run.request.ignore_eos and token in self._model.config.eos_token_ids
            if is_end or run.num_emitted == run.request.max_new_tokens:
                finished.append(request_id)
                self._schedule.drop(self._live.pop(request_id))
        return tuple(emitted), tuple(finished)

    def _fail(self, run: Run) -> None:
        self._schedule.drop(self._live.pop(run.request.request_id))
        self._failed.append(
            EngineError(
                f"request {run.request.request_id!r}: its logits are NaN after {run.num_emitted} tokens, so it is dropped; "
                "look for NaN or too large values in the checkpoint"
            )
        )

    def _record(self, launched: Launched, recorded_LTK: np.ndarray) -> None:
        if self._recorder is None:
            return
        numbers = [run.number for run in launched.step.runs]
        if launched.is_prompt:
            numbers = np.repeat(numbers, [segment.count for segment in launched.step.segments])
        self._recorder.add_step(launched.phase, self._num_steps, recorded_LTK.transpose(1, 0, 2), requests=numbers)
