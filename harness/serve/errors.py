"""Errors as OpenAI's API words them: an HTTP status and `{"error": {message, type, param, code}}`."""

from harness.errors import HarnessError


class ApiError(HarnessError):
    """A request that is answered with an error; `param` names the field of the body that is at fault."""

    def __init__(self, status: int, message: str, *, kind: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code

    def body(self) -> dict:
        """The JSON body."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the body breaks a rule."""
    return ApiError(400, message, kind="invalid_request_error", param=param, code=code)


def too_long(num_prompt: int, num_new: int, max_context: int) -> ApiError:
    """400 with the code that clients look for when a prompt does not fit."""
    message = (
        f"This model's maximum context length is {max_context} tokens. However, your request has {num_prompt} prompt tokens "
        f"and asks for {num_new} more. Shorten the prompt, lower max_tokens, or start the server with a larger --max-context."
    )
    return bad_request(message, param="max_tokens", code="context_length_exceeded")


def wrong_model(asked: str, served: str) -> ApiError:
    """404: this server has one model."""
    message = f"The model `{asked}` does not exist; this server has `{served}`"
    return ApiError(404, message, kind="invalid_request_error", param="model", code="model_not_found")


def server_full(num_requests: int) -> ApiError:
    """429: slots and queue are taken; come back later."""
    message = f"{num_requests} requests are running or waiting, and no more are queued (--max-waiting); try again later"
    return ApiError(429, message, kind="rate_limit_error", code="server_full")


def engine_failed(reason: str) -> ApiError:
    """500: the engine raised; nothing after it can be trusted."""
    return ApiError(500, f"the engine failed: {reason}; restart the server", kind="server_error", code="engine_failed")


def shutting_down() -> ApiError:
    """503: the server was asked to end."""
    return ApiError(503, "the server is shutting down", kind="server_error", code="shutting_down")
