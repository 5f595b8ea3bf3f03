"""Our runtime behind an OpenAI-compatible HTTP server: `harness serve`.

HTTP request -> body (parsed, refused where it cannot be served) -> generate (jobs on the engine's thread) -> answers (JSON
or server-sent events). The engine steps in a thread of its own; aiohttp's loop never waits for it.
`harness.backends.native_engine` is the only thing here that knows `fp4moe`; everything in this folder sees token ids.
"""
