"""Requests of a workload: which prompt, how many tokens, when they should start.

In: a workload spec, the token ids of a text (or a vocabulary size when there is none), a seed. Out: `PlannedRequest`s, the
same for every backend and every repeat. The prompts are windows of the text at seeded places, so that routing is that
of real language. Each kind of draw has a generator of its own: changing lengths does not move the arrivals.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from harness.scenario.arrival import num_slots
from harness.scenario.schema import WorkloadSpec
from harness.workload.arrivals import arrival_times_s
from harness.workload.bounds import num_requests_of, trace_of
from harness.workload.lengths import draw_lengths
from harness.workload.planned import PlannedRequest
from harness.workload.prompts import PromptMaker, shared_prefixes
from harness.workload.sharegpt import choose_conversations

__all__ = ["PlannedRequest", "iter_requests", "num_warmup", "plan_requests", "sampling_seed", "warmup_requests"]

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str]
WARMUP_OUTPUT_TOKENS = 16
"""Most that a warm-up request asks of a server; enough to reach its decoding path."""
_LENGTHS, _CONVERSATIONS, _PREFIXES = 11, 12, 13
"""Appended to the seed of a workload: a generator for each kind of draw."""


def plan_requests(
    spec: WorkloadSpec,
    text_ids: Sequence[int] | None,
    vocab_size: int,
    seed: int,
    *,
    encode: Encode | None = None,
    decode: Decode | None = None,
) -> list[PlannedRequest]:
    """The requests of one repeat; every repeat sends the same ones, so that repeats differ by timing alone."""
    return list(iter_requests(spec, text_ids, vocab_size, seed, encode=encode, decode=decode))


def iter_requests(
    spec: WorkloadSpec,
    text_ids: Sequence[int] | None,
    vocab_size: int,
    seed: int,
    *,
    encode: Encode | None = None,
    decode: Decode | None = None,
) -> Iterator[PlannedRequest]:
    """The same requests one by one, so that 100 000 of them need not be held.

    `decode` gives each its text (the chat API takes text); `encode` is needed for conversations.
    """
    base = _seed(spec, seed)
    generator = np.random.default_rng(base)
    count, trace = num_requests_of(spec), trace_of(spec)
    times = arrival_times_s(spec.arrival, count, generator, None if trace is None else [row.time_s for row in trace.rows])
    contents = _contents(spec, count, PromptMaker(text_ids, vocab_size, base), base, generator, encode)
    for index, (ids, text, num_output) in enumerate(contents):
        yield PlannedRequest(
            request_id=f"{spec.name}-{index}",
            prompt_ids=ids,
            output_tokens=num_output,
            scheduled_s=times[index],
            prompt_text=decode(ids) if text is None and decode is not None else text,
            seed=sampling_seed(seed, index) if spec.sampling.temperature > 0 else None,
        )


def warmup_requests(
    spec: WorkloadSpec,
    text_ids: Sequence[int] | None,
    vocab_size: int,
    seed: int,
    *,
    encode: Encode | None = None,
    decode: Decode | None = None,
) -> list[PlannedRequest]:
    """Requests to send before a server is measured: same lengths, other prompts, so that no prefix is cached by them."""
    if spec.source.kind == "sharegpt":
        return []  # taking conversations away from the measured ones could leave too few
    planned = iter_requests(spec, text_ids, vocab_size, seed + 1, encode=encode, decode=decode)
    return [
        PlannedRequest(
            f"{request.request_id}-warmup",
            request.prompt_ids,
            min(request.output_tokens, WARMUP_OUTPUT_TOKENS),
            None,
            prompt_text=request.prompt_text,
        )
        for request in islice(planned, num_warmup(spec))
    ]


def num_warmup(spec: WorkloadSpec) -> int:
    """Requests sent before those that count: what the workload says, else twice the slots; at most all."""
    asked = 2 * num_slots(spec.arrival) if spec.warmup_requests is None else spec.warmup_requests
    return min(num_requests_of(spec), asked)


def sampling_seed(seed: int, index: int) -> int:
    """Seed of the index-th request's sampling: the same on every backend that takes one."""
    return seed * 1_000_003 + index


def _seed(spec: WorkloadSpec, seed: int) -> list[int]:
    return [seed, len(spec.name), *spec.name.encode()]


def _contents(spec, count: int, maker: PromptMaker, base: list[int], generator, encode):
    """(prompt ids, prompt text or None, output tokens) of each request."""
    lengths = np.random.default_rng([*base, _LENGTHS])
    outputs = None if spec.output_tokens is None else draw_lengths(spec.output_tokens, count, lengths).tolist()
    if spec.source.kind == "sharegpt":
        order = np.random.default_rng([*base, _CONVERSATIONS])
        for index, talk in enumerate(choose_conversations(spec.source, count, order, encode)):
            yield talk.prompt_ids, talk.prompt_text, talk.output_tokens if outputs is None else outputs[index]
        return
    trace = trace_of(spec)
    prompts = None if spec.prompt_tokens is None else draw_lengths(spec.prompt_tokens, count, lengths).tolist()
    prefix = spec.shared_prefix
    prefixes = None if prefix is None else shared_prefixes(prefix, count, maker, [*base, _PREFIXES])
    for index in range(count):
        row = None if trace is None else trace.rows[index]
        length = row.prompt_tokens if prompts is None else prompts[index]
        shared = row is not None and row.hash_ids and prompts is None
        ids = maker.blocks(length, row.hash_ids) if shared else maker.window(length, generator)
        ids = ids if prefixes is None else prefixes[index] + ids
        yield ids, None, row.output_tokens if outputs is None else outputs[index]
