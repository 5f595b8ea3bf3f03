"""POST /v1/completions: text or token ids in, text out; with `echo`, the prompt and its log-probabilities as well.

The log-probabilities of generated tokens come from a second pass over the whole sequence (`Generator.score`), since the
engine keeps none; perplexity is had by `echo` with `max_tokens: 0`.
"""

import uuid
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from harness.serve.answers import Head, TokenNames, completion_logprobs, prompt_logprobs, usage
from harness.serve.body import CompletionBody
from harness.serve.errors import bad_request
from harness.serve.generate import Generator
from harness.serve.jobs import GenerationSpec
from harness.serve.sse import EventStream


@dataclass(slots=True)
class Result:
    """One answer, gathered."""

    prompt_ids: list[int]
    ids: list[int]
    text: str = ""
    finish_reason: str | None = "length"


async def complete(request: web.Request, body: CompletionBody, generator: Generator, model: str) -> web.StreamResponse:
    """Answer one request."""
    prompts = [prompt_ids(prompt, body, generator) for prompt in body.prompts]
    max_new = 16 if body.max_tokens is None else body.max_tokens
    for ids in prompts:
        generator.check(ids, max_new)
    specs = [spec_of(ids, max_new, body, index) for index, ids in enumerate(prompts)]
    head = Head.of(f"cmpl-{uuid.uuid4().hex}", "text_completion", model)
    if body.stream:
        return await _stream(request, body, generator, specs, head)
    results = [Result(ids, []) for ids in prompts]
    if max_new:
        await gather(results, generator, specs, body.stops)
    choices = [await _choice(index, result, body, generator) for index, result in enumerate(results)]
    num_output = sum(len(result.ids) for result in results)
    return web.json_response(head.body(choices, usage(sum(map(len, prompts)), num_output)))


def prompt_ids(prompt: str | list[int], body, generator: Generator) -> list[int]:
    """Ids of one prompt."""
    if not isinstance(prompt, str):
        return prompt
    if generator.codec is None:
        raise bad_request("prompt: this model has no tokenizer (random weights); send token ids", param="prompt")
    return generator.codec.encode(prompt, add_special_tokens=body.add_special_tokens)


def spec_of(ids: list[int], max_new: int, body, index: int = 0) -> GenerationSpec:
    """What the engine is asked; several prompts of one request draw from different random streams."""
    seed = uuid.uuid4().int % 2**32 if body.seed is None else (body.seed + index) % 2**32
    ignore_eos = body.ignore_eos or body.min_tokens > 0
    return GenerationSpec(ids, max_new, body.temperature, body.top_p, seed, ignore_eos)


async def gather(results: list[Result], generator: Generator, specs: list[GenerationSpec], stops: tuple[str, ...]) -> None:
    """Fill in every result."""
    async for piece in generator.run(specs, stops):
        result = results[piece.index]
        result.ids.append(piece.token_id)
        result.text += piece.text
        result.finish_reason = piece.finish_reason


async def _choice(index: int, result: Result, body: CompletionBody, generator: Generator) -> dict:
    num_top = max(body.logprobs or 0, body.prompt_logprobs or 0)
    wants = body.logprobs is not None or body.prompt_logprobs is not None
    whole = result.prompt_ids + result.ids
    scores = await generator.score(whole, num_top) if wants else []
    names = TokenNames(generator.codec, body.return_tokens_as_token_ids)
    first = 0 if body.echo else len(result.prompt_ids)
    echoed = generator.codec.decode(result.prompt_ids) if body.echo and generator.codec else ""
    choice = {"index": index, "text": echoed + result.text, "logprobs": None, "finish_reason": result.finish_reason}
    if body.logprobs is not None:
        choice["logprobs"] = completion_logprobs(whole[first:], scores[first:], body.logprobs, names)
    if body.prompt_logprobs is not None:
        count = len(result.prompt_ids)
        choice["prompt_logprobs"] = prompt_logprobs(whole[:count], scores[:count], body.prompt_logprobs, names)
    if body.return_token_ids:
        choice |= {"token_ids": result.ids, "prompt_token_ids": result.prompt_ids}
    return choice


async def _stream(request: web.Request, body: CompletionBody, generator: Generator, specs, head: Head) -> web.StreamResponse:
    """A chunk a token, the prompt first where it is echoed, a last chunk with the counts where it was asked for."""
    events = EventStream(request)
    options = body.stream_options
    num_prompt, count = sum(len(spec.prompt_ids) for spec in specs), 0
    echoes = {i: generator.codec.decode(s.prompt_ids) for i, s in enumerate(specs) if body.echo and generator.codec}
    async with aclosing(opened(events, generator.run(specs, body.stops))) as pieces:
        async for piece in pieces:
            count += 1
            choice = {"index": piece.index, "text": echoes.pop(piece.index, "") + piece.text, "logprobs": None}
            choice["finish_reason"] = piece.finish_reason
            if body.return_token_ids:
                choice["token_ids"] = [piece.token_id]
            running = usage(num_prompt, count) if options and options.continuous_usage_stats else None
            await events.send(head.body([choice], running))
    if options and options.include_usage:
        await events.send(head.body([], usage(num_prompt, count)))
    return await events.done()


async def opened(events: EventStream, pieces):
    """The pieces; the response begins with the first, so that a refusal still has its own status."""
    is_open = False
    try:
        async for piece in pieces:
            if not is_open:
                await events.open()
                is_open = True
            yield piece
    finally:
        await pieces.aclose()
