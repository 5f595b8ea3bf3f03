"""JSON of the answers, in the forms of OpenAI's completions and chat completions, with their log-probabilities.

In: texts, ids, scores. Out: plain dictionaries. Nothing here waits or computes.
"""

import time
from dataclasses import dataclass

from harness.serve.jobs import Scores
from harness.serve.text import Codec


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of one answer repeats."""

    answer_id: str
    kind: str
    """`text_completion`, `chat.completion` or `chat.completion.chunk`."""
    created_s: int
    model: str

    @classmethod
    def of(cls, answer_id: str, kind: str, model: str) -> "Head":
        return cls(answer_id, kind, int(time.time()), model)

    def body(self, choices: list[dict], usage: dict | None) -> dict:
        """A whole answer, or one chunk of it."""
        head = {"id": self.answer_id, "object": self.kind, "created": self.created_s, "model": self.model}
        return head | {"choices": choices} | ({} if usage is None else {"usage": usage})


def usage(num_prompt: int, num_output: int) -> dict:
    """The counts that clients trust over their own."""
    return {"prompt_tokens": num_prompt, "completion_tokens": num_output, "total_tokens": num_prompt + num_output}


@dataclass(frozen=True, slots=True)
class TokenNames:
    """How tokens are written in log-probabilities: as text, or `token_id:7`, which is unique."""

    codec: Codec | None
    as_ids: bool

    def name(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self.as_ids or self.codec is None else self.codec.token_text(token_id)


def completion_logprobs(ids: list[int], scores: Scores, num_top: int, names: TokenNames) -> dict:
    """The `logprobs` of a completion: parallel lists over its tokens; the first of a prompt has none."""
    tokens = [names.name(token) for token in ids]
    offsets, place = [], 0
    for token in tokens:
        offsets.append(place)
        place += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [None if score is None else score.logprob for score in scores],
        "top_logprobs": [_top(token, score, num_top, names) for token, score in zip(ids, scores, strict=True)],
        "text_offset": offsets,
    }


def prompt_logprobs(ids: list[int], scores: Scores, num_top: int, names: TokenNames) -> list[dict | None]:
    """vLLM's `prompt_logprobs`: a mapping from token id to its log-probability, rank and text a place."""
    return [_by_id(token, score, num_top, names) for token, score in zip(ids, scores, strict=True)]


def chat_logprobs(ids: list[int], scores: Scores, num_top: int, names: TokenNames) -> dict:
    """The `logprobs` of a chat choice."""

    def entry(token: int, logprob: float) -> dict:
        name = names.name(token)
        return {"token": name, "logprob": logprob, "bytes": list(name.encode())}

    content = []
    for token, score in zip(ids, scores, strict=True):
        top = [entry(other, logprob) for other, logprob in score.top[:num_top]]
        content.append(entry(token, score.logprob) | {"top_logprobs": top})
    return {"content": content, "refusal": None}


def _top(token: int, score, num_top: int, names: TokenNames) -> dict | None:
    """The likeliest tokens and the one that stands there, by name."""
    if score is None or num_top == 0:
        return None
    return {names.name(other): logprob for other, logprob in score.top[:num_top]} | {names.name(token): score.logprob}


def _by_id(token: int, score, num_top: int, names: TokenNames) -> dict | None:
    if score is None:
        return None
    top = {other: (logprob, rank) for rank, (other, logprob) in enumerate(score.top[:num_top], 1)}
    top.setdefault(token, (score.logprob, None))
    return {
        str(other): {"logprob": logprob, "rank": rank, "decoded_token": names.name(other)}
        for other, (logprob, rank) in top.items()
    }
