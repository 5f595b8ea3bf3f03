"""Perplexity through a server: the log-probabilities of prompts that are echoed, on the windows that every backend scores.

In: a server, windows. Out: NLL and likeliest token at every scored place. OpenAI's completions API gives them with `echo`
and `logprobs`; vLLM and `harness serve` do, many hosted servers do not, and then quality is not measured, with that reason.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from harness.backends.served.http import HttpProblem, Server
from harness.workload.heldout import HeldoutWindows

IN_FLIGHT = 4
WINDOW_TIMEOUT_S = 300.0


def score(server: Server, model: str, windows: HeldoutWindows, progress) -> tuple[np.ndarray, np.ndarray | None]:
    """(nll float32 [W, T] nats, likeliest token ids [W, T] or None); HttpProblem where the server cannot."""
    rows, top = [], []
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for nll, likeliest in pool.map(lambda ids: _window(server, model, ids), windows.tokens.tolist()):
            rows.append(nll)
            top.append(likeliest)
            progress(len(rows), len(windows.tokens), "windows")
    return np.asarray(rows, np.float32), None if None in top else np.asarray(top)


def _window(server: Server, model: str, ids: list[int]) -> tuple[list[float], list[int] | None]:
    body = {
        "model": model, "prompt": ids, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
        "return_tokens_as_token_ids": True,
    }  # fmt: skip
    answer = server.post("/completions", body, timeout_s=WINDOW_TIMEOUT_S)
    given = (answer.get("choices") or [{}])[0].get("logprobs") or {}
    logprobs = given.get("token_logprobs") or []
    scored = logprobs[1 : len(ids)]
    if len(scored) != len(ids) - 1 or None in scored:
        told = f"{len(logprobs)} log-probabilities for a prompt of {len(ids)} tokens"
        raise HttpProblem("no_prompt_logprobs", f"{server.url}/completions: echo with logprobs gave {told}")
    return [-value for value in scored], _likeliest(given.get("top_logprobs"), len(ids))


def _likeliest(top: list[dict | None] | None, length: int) -> list[int] | None:
    """Ids of the likeliest tokens, where the server writes tokens as `token_id:7`."""
    names = [max(row, key=row.get) if row else "" for row in (top or [])[1:length]]
    if len(names) != length - 1 or not all(name.startswith("token_id:") for name in names):
        return None
    return [int(name.removeprefix("token_id:")) for name in names]
