"""Is there an OpenAI-compatible API at a URL, has it the model, and does it count tokens as our tokenizer does.

In: a server, the model's name or None, a text with our own ids. Out: `Identity`, or HttpProblem that names what is wrong.
"""

import json
from dataclasses import dataclass

from harness.backends.served.http import HttpProblem, Server

MAX_SPECIAL = 2
"""Tokens that a server may put around a prompt by itself: begin and end of text."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server says of itself."""

    model: str
    details: dict
    """The model's row of /v1/models."""
    version: str | None


def identify(server: Server, wanted: str | None) -> Identity:
    """Ask /v1/models and /version."""
    rows = server.get_json("/models").get("data")
    names = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not names:
        raise HttpProblem("bad_json", f"{server.url}/models: lists no model")
    if wanted is None and len(names) > 1:
        raise HttpProblem("wrong_model", f"{server.url} serves {', '.join(names)}; name one as `model`")
    if wanted is not None and wanted not in names:
        raise HttpProblem("wrong_model", f"{server.url} serves {', '.join(names)}, and not {wanted!r}; correct `model`")
    name = wanted or names[0]
    return Identity(name, rows[names.index(name)], _version(server))


def tokenizer_problem(server: Server, model: str, text: str, ids: list[int]) -> str | None:
    """Why the server's tokenizer is not ours, by the count that its `usage` gives for a text; None where it fits."""
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0}
    counted = (server.post("/completions", body).get("usage") or {}).get("prompt_tokens")
    if counted is None:
        return None
    if len(ids) <= counted <= len(ids) + MAX_SPECIAL:
        return None
    told = f"a text of {len(text)} characters is {len(ids)} tokens here and {counted} at {server.url}"
    return f"{told}: another tokenizer, so that token ids mean other words there; set `for_model` or `path` to its checkpoint"


def _version(server: Server) -> str | None:
    """vLLM's and ours have /version; others may not."""
    try:
        return json.loads(server.get(f"{server.root}/version")).get("version")
    except (HttpProblem, ValueError, AttributeError):
        return None
