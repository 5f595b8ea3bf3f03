"""One short prompt as one launch: CUDA graphs by length, in steps of 32 tokens up to 512.

In: a step of one whole prompt, greedy. Out: what the host reads of it. Such a step is bound by the host's launches (24 ms for
128 tokens of Mixtral-8x7B, which take an H100 15 ms), so it is worth a graph. The prompt is filled up with its last token:
later positions are not seen by earlier ones, their keys are overwritten before anything attends to them, and their experts are
recorded for nobody.

Shapes: P a padded length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fp4moe.runtime.gpu.attention import Lengths, PackedPrompts, to_device
from fp4moe.runtime.gpu.cache import SlotCache
from fp4moe.runtime.gpu.graphs import StepGraphs
from fp4moe.runtime.gpu.passes import DecoderPasses
from fp4moe.runtime.gpu.schedule import PromptStep, Run
from fp4moe.runtime.gpu.segment import Segment
from fp4moe.triton.decoder.next_token import SlotState, next_token

LONGEST = 512
STEP = 32


class ShortPrompts:
    """Graphs of one engine; takes nothing where `graphs` is None."""

    def __init__(self, passes: DecoderPasses, cache: SlotCache, state: SlotState, graphs: StepGraphs | None) -> None:
        self._passes, self._cache, self._state, self._graphs = passes, cache, state, graphs
        device = passes.device
        longest = min(LONGEST, cache.max_context // STEP * STEP)
        self._lengths = [] if graphs is None else list(range(longest, 0, -STEP))
        # Tokens, slots, then the row of the last token, its slot and the prompt's length: one copy brings all.
        self._inputs = torch.zeros(2 * longest + 3, dtype=torch.int32, device=device)
        self._positions = torch.arange(longest, dtype=torch.int32, device=device)
        self._longest = longest

    def capture_all(self) -> None:
        """For every length; writes to slot 0, so only while no request is there."""
        for length in self._lengths:
            starts = to_device([0, length], self._passes.device)
            prompts = PackedPrompts(
                self._passes.config,
                self._passes.cos_sin,
                (Segment(0, 0, length),),
                self._cache,
                Lengths([length], [length], starts, starts),
                self._positions[:length],
                self._inputs[self._longest : self._longest + length],
            )
            self._graphs.capture(("prompt", length), lambda prompts=prompts, length=length: self._body(prompts, length))

    def takes(self, step: PromptStep) -> bool:
        """Whether the step is one whole greedy prompt of a captured length."""
        if len(step.segments) != 1 or not step.ends or step.segments[0].start:
            return False
        return ("prompt", _padded(step.num_tokens)) in self._lengths_captured and step.runs[0].request.sampling.is_greedy

    def launch(self, run: Run) -> dict[str, Tensor]:
        """Replay for this prompt."""
        ids = run.request.prompt_ids
        count, length = len(ids), _padded(len(ids))
        tokens = ids + [ids[-1]] * (self._longest - count)
        values = [*tokens, *[run.slot] * self._longest, count - 1, run.slot, count]
        self._inputs.copy_(to_device(values, self._passes.device), non_blocking=True)
        tokens_1, recorded_LPK = self._graphs.replay(("prompt", length))
        return {"tokens": tokens_1, "recorded": recorded_LPK[:, :count]}

    @property
    def _lengths_captured(self):
        return () if self._graphs is None else self._graphs

    def _body(self, prompts: PackedPrompts, length: int) -> tuple[Tensor, Tensor]:
        row, slot, count = self._inputs[-3:].split(1)
        plan = self._passes.recorded(length)
        normed_PD = self._passes.hidden(self._inputs[:length], None, length, prompts, plan)
        logits_1V = self._passes.logits(normed_PD.index_select(0, row))
        out_1 = torch.empty(1, dtype=torch.int32, device=self._passes.device)
        next_token(logits_1V, slot, self._state, out_1, is_sampled=False, lengths_B=count)
        return out_1, plan.recorded_LTK


def _padded(count: int) -> int:
    return -(-count // STEP) * STEP
