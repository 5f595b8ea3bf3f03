"""Routes, and what every request goes through: key, JSON, model name, errors in OpenAI's form, counts.

In: a Generator and what is served. Out: an aiohttp application. Handlers are in completions.py and chat.py.
"""

import json
import time
from dataclasses import dataclass
from importlib import metadata

from aiohttp import web

from harness.serve import metrics as prometheus
from harness.serve.body import ChatBody, CompletionBody, parse
from harness.serve.chat import chat
from harness.serve.completions import complete
from harness.serve.errors import ApiError, bad_request, engine_failed, wrong_model
from harness.serve.generate import Generator

MAX_BODY_BYTES = 64 * 2**20
OPEN_PATHS = ("/health", "/metrics", "/version")


@dataclass(frozen=True, slots=True)
class Served:
    """The model as clients see it."""

    name: str
    details: dict
    """Beside OpenAI's fields in /v1/models: precision, implementation, weights."""
    max_context: int
    api_key: str | None


def make_app(generator: Generator, served: Served) -> web.Application:
    """The application; the caller runs it."""
    api = _Api(generator, served)
    app = web.Application(middlewares=[api.guard], client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/health", api.health)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/version", api.version)
    app.router.add_get("/v1/models", api.models)
    app.router.add_get("/v1/models/{name:.+}", api.model)
    app.router.add_post("/v1/completions", api.completions)
    app.router.add_post("/v1/chat/completions", api.chat_completions)
    app.router.add_post("/tokenize", api.tokenize)
    return app


class _Api:
    """The handlers, around one generator."""

    def __init__(self, generator: Generator, served: Served) -> None:
        self._generator, self._served = generator, served
        self._started_s = int(time.time())

    @web.middleware
    async def guard(self, request: web.Request, handler) -> web.StreamResponse:
        """Check the key, turn errors into answers, count what was answered."""
        try:
            self._check_key(request)
            response = await handler(request)
        except ApiError as error:
            response = _error_response(error)
        except web.HTTPException as error:
            kind = "invalid_request_error"
            response = _error_response(ApiError(error.status, f"{request.method} {request.path}: {error.reason}", kind=kind))
        except ConnectionError:  # the client left while it was written to; its jobs are cancelled, nobody reads an answer
            self._generator.metrics.answered(499)
            raise
        self._generator.metrics.answered(response.status)
        return response

    async def health(self, request: web.Request) -> web.Response:
        """200 while the engine works, 503 once it failed or the server ends."""
        if self._generator.failure is not None or self._generator.is_stopping:
            return _error_response(ApiError(503, str(engine_failed(str(self._generator.failure))), kind="server_error"))
        return web.json_response({"status": "ok", "model": self._served.name})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._generator.metrics.text(), headers={"Content-Type": prometheus.CONTENT_TYPE})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": metadata.version("fp4moe-harness"), "engine": "fp4moe"})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model_row()]})

    async def model(self, request: web.Request) -> web.Response:
        self._check_model(request.match_info["name"])
        return web.json_response(self._model_row())

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = parse(CompletionBody, await _json(request))
        self._check_model(body.model)
        return await complete(request, body, self._generator, self._served.name)

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        body = parse(ChatBody, await _json(request))
        self._check_model(body.model)
        return await chat(request, body, self._generator, self._served.name)

    async def tokenize(self, request: web.Request) -> web.Response:
        """vLLM's /tokenize: {"prompt": text} -> ids, so that a client can hold its tokenizer against this one."""
        data = await _json(request)
        if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
            raise bad_request("prompt: must be a string", param="prompt")
        if self._generator.codec is None:
            raise bad_request("prompt: this model has no tokenizer (random weights)", param="prompt")
        add = data.get("add_special_tokens", True) is not False
        ids = self._generator.codec.encode(data["prompt"], add_special_tokens=add)
        return web.json_response({"tokens": ids, "count": len(ids), "max_model_len": self._served.max_context})

    def _model_row(self) -> dict:
        row = {"id": self._served.name, "object": "model", "created": self._started_s, "owned_by": "fp4moe"}
        return row | {"max_model_len": self._served.max_context} | self._served.details

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self._served.name:
            raise wrong_model(name, self._served.name)

    def _check_key(self, request: web.Request) -> None:
        key = self._served.api_key
        if key is None or request.path in OPEN_PATHS or request.headers.get("Authorization") == f"Bearer {key}":
            return
        raise ApiError(401, "Incorrect API key provided", kind="invalid_request_error", code="invalid_api_key")


async def _json(request: web.Request):
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body must be JSON ({error})") from None


def _error_response(error: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    return web.json_response(error.body(), status=error.status, headers=headers)
