"""The JSON body of a request: checked, and refused where it asks for what this server does not do.

In: the bytes of POST /v1/completions or /v1/chat/completions. Out: `CompletionBody` or `ChatBody`. Field names and defaults
are OpenAI's; `ignore_eos`, `min_tokens`, `prompt_logprobs`, `add_special_tokens`, `return_token_ids` and
`return_tokens_as_token_ids` are vLLM's additions. A feature that would change the answer and is not there is refused with
its name, never ignored; keys that no API has are ignored, as other servers do.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from harness.serve.errors import ApiError, bad_request

MAX_TOP_LOGPROBS = 20
MAX_PROMPTS = 256
NEUTRAL = {
    "n": (1,), "best_of": (1,), "suffix": ("",), "presence_penalty": (0,), "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},), "top_k": (0, -1), "min_p": (0,), "tools": ([],), "tool_choice": ("none",), "functions": ([],),
    "response_format": ({"type": "text"},), "modalities": (["text"],), "audio": (), "prediction": (), "guided_json": (),
    "structured_outputs": (), "use_beam_search": (False,), "length_penalty": (1,), "stop_token_ids": ([],), "bad_words": ([],),
}  # fmt: skip
"""Features that are not here -> values (beside null) that ask for nothing."""

Ids = list[Annotated[StrictInt, Field(ge=0)]]


class StreamOptions(BaseModel):
    """`include_usage`: a last chunk with the counts."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Body(BaseModel):
    """What both endpoints take."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    temperature: float = Field(1.0, ge=0.0, le=10.0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    min_tokens: int = Field(0, ge=0)
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts that are not empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)


class CompletionBody(Body):
    """POST /v1/completions."""

    prompt: str | list[str] | Ids | list[Ids]
    max_tokens: int | None = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    add_special_tokens: bool = True

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, whichever of the four forms was sent."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if self.prompt and isinstance(self.prompt[0], int) else list(self.prompt)


class ContentPart(BaseModel):
    """A part of a message; only text can be read."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a chat."""

    role: str
    content: str | list[ContentPart] | None = ""

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])


class ChatBody(Body):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer; None: as many as fit."""
        return self.max_completion_tokens or self.max_tokens


def parse(kind: type[Body], data: Any) -> Any:
    """Check a body; ApiError 400 with the first rule it breaks."""
    if not isinstance(data, dict):
        raise bad_request(f"the body must be a JSON object (got {type(data).__name__})")
    for key, neutral in NEUTRAL.items():
        if data.get(key) is not None and data[key] not in neutral:
            raise bad_request(f"{key}: not supported by this server (got {str(data[key])[:80]!r}); leave it out", param=key)
    try:
        body = kind.model_validate(data)
    except ValidationError as error:
        raise _refused(error) from None
    _check_pairs(body)
    return body


def _refused(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][:1]) or "body"
    value = str(first.get("input"))[:80]
    return bad_request(f"{place}: {first['msg']} (got {value!r})", param=place)


def _check_pairs(body: Body) -> None:
    limit = body.limit if isinstance(body, ChatBody) else body.max_tokens
    if body.min_tokens and not body.ignore_eos and body.min_tokens != limit:
        raise bad_request(
            "min_tokens: must be 0 or equal to max_tokens; there is no penalty on end-of-text", param="min_tokens"
        )
    if isinstance(body, CompletionBody):
        if not 1 <= len(body.prompts) <= MAX_PROMPTS:
            raise bad_request(f"prompt: must be 1 to {MAX_PROMPTS} prompts (got {len(body.prompts)})", param="prompt")
        if body.max_tokens == 0 and not (body.echo or body.prompt_logprobs is not None):
            raise bad_request("max_tokens: must be at least 1 without echo (got 0)", param="max_tokens")
    if body.stream and (_wants_logprobs(body)):
        reason = "log-probabilities come from a second pass over the whole sequence; ask with stream=false"
        raise bad_request(f"logprobs: not supported with stream=true: {reason}", param="logprobs")


def _wants_logprobs(body: Body) -> bool:
    if isinstance(body, ChatBody):
        return body.logprobs
    return body.logprobs is not None or body.prompt_logprobs is not None
