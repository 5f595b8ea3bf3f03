"""POST /v1/chat/completions: messages in, the assistant's next one out.

The model's own chat template makes the prompt; a base model without one gets `role: text` lines (harness.serve.text).
"""

import uuid
from contextlib import aclosing

from aiohttp import web

from harness.serve.answers import Head, TokenNames, chat_logprobs, usage
from harness.serve.body import ChatBody
from harness.serve.completions import Result, gather, opened, spec_of
from harness.serve.errors import bad_request, too_long
from harness.serve.generate import Generator
from harness.serve.sse import EventStream


async def chat(request: web.Request, body: ChatBody, generator: Generator, model: str) -> web.StreamResponse:
    """Answer one request."""
    ids = _prompt_ids(body, generator)
    room = generator.limits.max_context - len(ids)
    if room < 1:
        raise too_long(len(ids), body.limit or 1, generator.limits.max_context)
    max_new = room if body.limit is None else body.limit
    generator.check(ids, max_new)
    spec = spec_of(ids, max_new, body)
    answer_id = f"chatcmpl-{uuid.uuid4().hex}"
    if body.stream:
        return await _stream(request, body, generator, spec, Head.of(answer_id, "chat.completion.chunk", model))
    result = Result(ids, [])
    await gather([result], generator, [spec], body.stops)
    message = {"role": "assistant", "content": result.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": result.finish_reason}
    if body.logprobs:
        num_top = body.top_logprobs or 0
        scores = (await generator.score(ids + result.ids, num_top))[len(ids) :]
        names = TokenNames(generator.codec, body.return_tokens_as_token_ids)
        choice["logprobs"] = chat_logprobs(result.ids, scores, num_top, names)
    if body.return_token_ids:
        choice["token_ids"] = result.ids
    head = Head.of(answer_id, "chat.completion", model)
    return web.json_response(head.body([choice], usage(len(ids), len(result.ids))))


def _prompt_ids(body: ChatBody, generator: Generator) -> list[int]:
    """The template writes begin-of-text itself where it has one; where it does not, the tokenizer adds it."""
    if generator.codec is None:
        raise bad_request("messages: this model has no tokenizer (random weights); use /v1/completions with token ids")
    codec = generator.codec
    messages = [{"role": message.role, "content": message.text} for message in body.messages]
    try:
        text = codec.chat_prompt(messages)
    except Exception as error:  # a template may raise on roles that it does not know
        raise bad_request(f"messages: the model's chat template refuses them ({error})", param="messages") from None
    ids, with_special = codec.encode(text, add_special_tokens=False), codec.encode(text)
    begin = with_special[: len(with_special) - len(ids)]
    return ids if ids[: len(begin)] == begin else with_special


async def _stream(request: web.Request, body: ChatBody, generator: Generator, spec, head: Head) -> web.StreamResponse:
    events = EventStream(request)
    options = body.stream_options
    num_prompt, count = len(spec.prompt_ids), 0
    async with aclosing(opened(events, generator.run([spec], body.stops))) as pieces:
        async for piece in pieces:
            delta = {"content": piece.text} if count else {"role": "assistant", "content": piece.text}
            count += 1
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": piece.finish_reason}
            if body.return_token_ids:
                choice["token_ids"] = [piece.token_id]
            running = usage(num_prompt, count) if options and options.continuous_usage_stats else None
            await events.send(head.body([choice], running))
    if options and options.include_usage:
        await events.send(head.body([], usage(num_prompt, count)))
    return await events.done()
