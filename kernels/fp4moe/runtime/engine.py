"""Continuous batching: requests come and go at any time, each step serves those that are here.

In: `submit` and `cancel` between steps. Out: one `StepResult` a `step`. A waiting request is prefilled,
alone, as soon as a slot is free, before any decoding; otherwise every running request decodes one token.
Requests beyond the slots wait in order. A request's logits are the same bits alone and among others, for up
to 32 running requests under the reference on a CPU (reference/product.py). Single-threaded, prints nothing.

Shapes: B running requests.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import torch

from fp4moe import ranges
from fp4moe.errors import EngineError
from fp4moe.runtime.kv_cache import KVCache
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.runtime.request import Request, StepResult, check_request
from fp4moe.runtime.sampling import sample


@dataclass(slots=True)
class _Running:
    """A request that holds a slot. num_cached: tokens in the slot; last_token is not yet among them."""

    request: Request
    slot: int
    generator: torch.Generator | None
    num_cached: int
    last_token: int = -1
    num_emitted: int = 0


class Engine:
    """Serves one model. `request_numbers`: the number, in order of submission, that the recorder stores."""

    def __init__(
        self,
        model: MixtralModel,
        *,
        max_slots: int,
        max_context: int,
        kv_dtype: str = "bf16",
        recorder: RoutingRecorder | None = None,
    ) -> None:
        limit = model.config.max_positions
        if max_slots < 1 or not 2 <= max_context <= limit:
            raise EngineError(
                f"engine: must have max_slots >= 1 and 2 <= max_context <= {limit}, the model's positions "
                f"(got {max_slots} and {max_context})"
            )
        self._model = model
        self._max_context = max_context
        self._recorder = recorder
        self._cache = KVCache(
            model.config, max_slots=max_slots, max_context=max_context, kv_dtype=kv_dtype, device=model.device
        )
        self._free = list(range(max_slots - 1, -1, -1))
        self._waiting: deque[Request] = deque()
        self._running: dict[str, _Running] = {}
        self._num_steps = 0
        self.request_numbers: dict[str, int] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._waiting or self._running)

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes held for keys and values, in use or not."""
        return self._cache.nbytes

    @property
    def facts(self) -> dict[str, str]:
        """What computes a step beside the experts, for records."""
        return {"engine": "plain", "attention": "scaled_dot_product_attention (PyTorch), float32"}

    def record_into(self, recorder: RoutingRecorder | None) -> None:
        """Record from here on, and number requests and steps anew; EngineError while a request is under way."""
        if self.has_work:
            raise EngineError("engine: record_into() needs an engine without requests; step until has_work is False")
        self._recorder, self._num_steps = recorder, 0
        self.request_numbers = {}

    def submit(self, request: Request) -> None:
        """Queue a request; EngineError, without any effect, when it can never be served."""
        if request.request_id in self.request_numbers:
            raise EngineError(f"request {request.request_id!r}: request_id must be new to this engine (submitted before)")
        check_request(request, max_context=self._max_context, vocab_size=self._model.config.vocab_size)
        self.request_numbers[request.request_id] = len(self.request_numbers)
        self._waiting.append(request)

    def cancel(self, request_id: str) -> None:
        """Drop a waiting or running request; its slot is free at once. EngineError when it is neither."""
        if request_id in self._running:
            self._free.append(self._running.pop(request_id).slot)
            return
        for request in self._waiting:
            if request.request_id == request_id:
                self._waiting.remove(request)
                return
        raise EngineError(f"request {request_id!r}: must be waiting or running to be cancelled; it is neither")

    def step(self) -> StepResult:
        """One prefill or one decode; EngineError when there is nothing to do."""
        if not self.has_work:
            raise EngineError("engine: step() needs a waiting or running request; check has_work before")
        start_ns = time.perf_counter_ns()
        if self._waiting and self._free:
            with ranges.range("prefill", step=self._num_steps, tokens=len(self._waiting[0].prompt_ids)):
                phase, num_tokens, served = self._prefill(self._waiting.popleft())
        else:
            with ranges.range("decode step", step=self._num_steps, tokens=len(self._running)):
                phase, num_tokens, served = self._decode()
        end_ns = time.perf_counter_ns()
        finished = tuple(run.request.request_id for run in served if self._is_finished(run))
        for request_id in finished:
            self._free.append(self._running.pop(request_id).slot)
        emitted = tuple((run.request.request_id, run.last_token) for run in served)
        self._num_steps += 1
        index = self._num_steps - 1
        return StepResult(index, phase, start_ns, end_ns, num_tokens, len(served), emitted, finished)

    def _prefill(self, request: Request) -> tuple[str, int, list[_Running]]:
        """The slot is taken when the model is done: if it raises, the request is gone and the slot is not."""
        with ranges.range("prepare"):
            run = _Running(request, self._free[-1], request.sampling.generator(), len(request.prompt_ids))
            self._begin_recording("prefill", [run], num_tokens_each=run.num_cached)
            tokens_T = torch.tensor(request.prompt_ids, device=self._model.device)
        logits_V = self._model.prefill(tokens_T, self._cache, run.slot, self._recorder)
        self._running[request.request_id] = run
        self._free.pop()
        self._emit([run], logits_V.unsqueeze(0))
        return "prefill", run.num_cached, [run]

    def _decode(self) -> tuple[str, int, list[_Running]]:
        with ranges.range("prepare"):
            runs = list(self._running.values())
            self._begin_recording("decode", runs, num_tokens_each=1)
            columns = zip(*((run.last_token, run.num_cached, run.slot) for run in runs), strict=True)
            tokens_B, positions_B, slots_B = (torch.tensor(column, device=self._model.device) for column in columns)
        logits_BV = self._model.decode(tokens_B, positions_B, slots_B, self._cache, recorder=self._recorder)
        for run in runs:
            run.num_cached += 1
        self._emit(runs, logits_BV)
        return "decode", len(runs), runs

    def _emit(self, runs: list[_Running], logits_BV: torch.Tensor) -> None:
        with ranges.range("sampling"):  # waits for the device
            greedy_B = logits_BV.argmax(dim=-1).tolist()
            for row, run in enumerate(runs):
                sampling = run.request.sampling
                run.last_token = greedy_B[row] if sampling.is_greedy else sample(logits_BV[row], sampling, run.generator)
                run.num_emitted += 1

    def _is_finished(self, run: _Running) -> bool:
        if run.num_emitted == run.request.max_new_tokens:
            return True
        return not run.request.ignore_eos and run.last_token in self._model.config.eos_token_ids

    def _begin_recording(self, phase: str, runs: list[_Running], *, num_tokens_each: int) -> None:
        if self._recorder is not None:
            numbers = [self.request_numbers[run.request.request_id] for run in runs for _ in range(num_tokens_each)]
            self._recorder.begin_step(phase, len(numbers), self._num_steps, requests=numbers)
