"""Server-sent events: chunks of one streamed answer, in OpenAI's form.

In: pieces. Out: `data: {json}` lines and `data: [DONE]`. An error after the first byte cannot change the status any more;
it is sent as an event, as other servers do.
"""

import json

from aiohttp import web

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream:
    """Writes events to one response. `response` is made with the first."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers=HEADERS)

    async def open(self) -> None:
        await self.response.prepare(self._request)

    async def send(self, data: dict) -> None:
        await self.response.write(b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n")

    async def done(self) -> web.StreamResponse:
        await self.response.write(b"data: [DONE]\n\n")
        await self.response.write_eof()
        return self.response
