"""Launches of the GPU engine: one step planned by schedule.py, on the device, with what the host will read of it.

In: a `PromptStep` or `DecodeStep`. Out: `Launched`. Holds the device's state: cache, slots, lanes, graphs. Everything goes
to one stream in order, which is what lets a slot be given to the next request while its last step still runs. Waits for
nothing.

Shapes: T prompt tokens, B lanes of a decode step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fp4moe import ranges
from fp4moe.runtime.gpu.attention import NewTokens, PackedPrompts, to_device
from fp4moe.runtime.gpu.cache import SlotCache
from fp4moe.runtime.gpu.graphs import StepGraphs, all_lanes, lanes_for
from fp4moe.runtime.gpu.passes import DecoderPasses
from fp4moe.runtime.gpu.readback import DecodeReadback, DecodeResults, HostMemory, Readback
from fp4moe.runtime.gpu.schedule import DecodeStep, PromptStep, Run
from fp4moe.runtime.gpu.segment import Segment
from fp4moe.runtime.gpu.short_prompts import ShortPrompts
from fp4moe.triton.decoder.next_token import SlotState, next_token
from fp4moe.triton.decoder.slot_attention import Scratch


@dataclass(frozen=True, slots=True)
class Launched:
    """A step under way. `runs` are those that get a token, in the order of the tokens."""

    step: PromptStep | DecodeStep
    runs: tuple[Run, ...]
    readback: Readback | DecodeReadback
    launch_ns: int

    @property
    def is_prompt(self) -> bool:
        return isinstance(self.step, PromptStep)

    @property
    def phase(self) -> str:
        return "prefill" if self.is_prompt else "decode"


class Launcher:
    """The device's side of one engine."""

    def __init__(self, passes: DecoderPasses, *, max_slots: int, max_context: int, use_graphs: bool) -> None:
        self.passes, self.device = passes, passes.device
        config = passes.config
        self.cache = SlotCache(config, max_slots=max_slots, max_context=max_context, device=self.device)
        self.state = SlotState.of(max_slots, self.device)
        self.graphs: StepGraphs | None = StepGraphs() if use_graphs and self.device.type == "cuda" else None
        self._lanes = torch.full((max_slots,), self.cache.filler_slot, dtype=torch.int32, device=self.device)
        self._lanes_on_host: list[int] = []
        self._host_memory = HostMemory()
        self._scratch = Scratch.of(max_slots, config.num_kv_heads, config.head_dim, self.device)
        self._sampling_slots: set[int] = set()
        self._short_prompts = ShortPrompts(passes, self.cache, self.state, self.graphs)

    def warm_up(self, step_tokens: int) -> None:
        """Compile, capture every number of lanes, take the memory of the largest prompt step, which the allocator keeps."""
        self._capture_all()
        tokens = torch.zeros(step_tokens, dtype=torch.int32, device=self.device)
        prompts = PackedPrompts.of(self.passes.config, self.passes.cos_sin, _whole(step_tokens, self.cache.max_context), None)
        normed_TD = self.passes.hidden(tokens, None, step_tokens, prompts, self.passes.recorded(step_tokens))
        rows = min(self.cache.max_slots, step_tokens)
        self.passes.logits(normed_TD[:rows])

    def _capture_all(self) -> None:
        if self.graphs is not None:
            for lanes in all_lanes(self.cache.max_slots):
                self._capture((lanes, False))
            self._short_prompts.capture_all()
            torch.cuda.empty_cache()  # what the bodies took outside the graphs' pool to warm up

    def impose(self, imposed_RLK: Tensor | None) -> None:
        """Experts that every token from now on is sent to, whatever its router says; None ends it. Captures anew."""
        self.passes.imposed_RLK = None if imposed_RLK is None else imposed_RLK.to(self.device, torch.int32).contiguous()
        if self.graphs is not None:
            self.graphs.clear()
            self._capture_all()

    def launch(self, step: PromptStep | DecodeStep) -> Launched:
        """Put a step on the device."""
        launch_ns = time.perf_counter_ns()
        if isinstance(step, PromptStep):
            runs, tensors = self._prompts(step)
            with ranges.range("readback"):
                return Launched(step, runs, Readback(tensors), launch_ns)
        results = self._decode(step)
        with ranges.range("readback"):
            return Launched(step, step.runs, DecodeReadback(results, len(step.runs), self._host_memory), launch_ns)

    def _prompts(self, step: PromptStep) -> tuple[tuple[Run, ...], dict[str, Tensor]]:
        with ranges.range("prepare", tokens=step.num_tokens):
            self._set_sampling([run for run, segment in zip(step.runs, step.segments, strict=True) if segment.start == 0])
            if self._short_prompts.takes(step):
                return step.runs, self._short_prompts.launch(step.runs[0])
            ids = []
            for run, segment in zip(step.runs, step.segments, strict=True):
                ids += run.request.prompt_ids[segment.start : segment.end]
            tokens_T = to_device(ids, self.device)
            prompts = PackedPrompts.of(self.passes.config, self.passes.cos_sin, step.segments, self.cache)
            plan = self.passes.recorded(step.num_tokens)
        normed_TD = self.passes.hidden(tokens_T, None, step.num_tokens, prompts, plan)
        results = {"recorded": plan.recorded_LTK}
        runs = tuple(run for _, run in step.ends)
        if runs:
            results["tokens"] = self._first_tokens(normed_TD, step)
        return runs, results

    def _first_tokens(self, normed_TD: Tensor, step: PromptStep) -> Tensor:
        last_rows, total = [], 0
        for segment in step.segments:
            total += segment.count
            last_rows.append(total - 1)
        rows = to_device([last_rows[place] for place, _ in step.ends], self.device)
        slots = to_device([step.segments[place].slot for place, _ in step.ends], self.device)
        lengths = to_device([len(run.request.prompt_ids) for _, run in step.ends], self.device)
        logits_BV = self.passes.logits(normed_TD.index_select(0, rows))
        out_B = torch.empty(len(rows), dtype=torch.int32, device=self.device)
        is_sampled = any(not run.request.sampling.is_greedy for _, run in step.ends)
        with ranges.range("sampling"):
            next_token(logits_BV, slots, self.state, out_B, is_sampled=is_sampled, lengths_B=lengths)
        return out_B

    def _decode(self, step: DecodeStep) -> DecodeResults:
        with ranges.range("prepare", lanes=len(step.runs)):
            lanes = lanes_for(len(step.runs), self.cache.max_slots)
            slots = [run.slot for run in step.runs] + [self.cache.filler_slot] * (lanes - len(step.runs))
            key = lanes, any(not run.request.sampling.is_greedy for run in step.runs)
            if self.graphs is not None and key not in self.graphs:
                self._capture(key)
            if slots != self._lanes_on_host:
                self._lanes[:lanes].copy_(to_device(slots, self.device), non_blocking=True)
                self._lanes_on_host = slots
        return self._step_of_lanes(*key) if self.graphs is None else self.graphs.replay(key)

    def _step_of_lanes(self, lanes: int, is_sampled: bool) -> DecodeResults:
        """One token for each of the first `lanes` lanes."""
        slots_B, passes, state = self._lanes[:lanes], self.passes, self.state
        attend = NewTokens(passes.config, passes.cos_sin, self.cache, state.position_S, slots_B, self._scratch)
        results = DecodeResults.of(passes.config.num_layers, lanes, passes.config.top_k, self.device)
        plan = passes.recorded_in(results.recorded_LBK)
        logits_BV = passes.logits(passes.hidden(state.last_S, slots_B, lanes, attend, plan))
        with ranges.range("sampling"):
            next_token(logits_BV, slots_B, state, results.tokens_B, is_sampled=is_sampled)
        return results

    def _capture(self, key: tuple[int, bool]) -> None:
        """On lanes that are nobody's, since the first run of the body moves their slots on."""
        self._lanes.fill_(self.cache.filler_slot)
        self._lanes_on_host = []
        self.graphs.capture(key, lambda: self._step_of_lanes(*key))

    def _set_sampling(self, begun: list[Run]) -> None:
        """Write how the slots of `begun` sample, where that is not what they hold."""
        changed = [run for run in begun if not run.request.sampling.is_greedy or run.slot in self._sampling_slots]
        if not changed:
            return
        slots = to_device([run.slot for run in changed], self.device).long()
        asked = [run.request.sampling for run in changed]
        state = self.state
        state.temperature_S[slots] = to_device([s.temperature for s in asked], self.device, torch.float32)
        state.top_p_S[slots] = to_device([s.top_p for s in asked], self.device, torch.float32)
        state.seed_S[slots] = to_device([_signed(s.seed) for s in asked], self.device)
        state.drawn_S[slots] = 0
        self._sampling_slots |= {run.slot for run in changed if not run.request.sampling.is_greedy}
        self._sampling_slots -= {run.slot for run in changed if run.request.sampling.is_greedy}


def _signed(seed: int) -> int:
    """The low 32 bits as an int32."""
    low = seed & 0xFFFFFFFF
    return low - (1 << 32) if low >= 1 << 31 else low


def _whole(num_tokens: int, longest: int) -> list[Segment]:
    """Sequences of at most `longest` tokens, as many as make `num_tokens`."""
    return [Segment(0, 0, min(longest, num_tokens - start)) for start in range(0, num_tokens, longest)]
