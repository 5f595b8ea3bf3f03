"""The kinds of failure and of oddity that a request can end with: name -> what it means and what to do.

A failure keeps a request out of every latency and throughput figure and counts against the allowed share; a note does
not, and is counted beside the figures.
"""

FAILURES = {
    "unreachable": "no connection: is the server up, and is the URL right?",
    "client_limit": "this machine has no file descriptor or port left for another connection; raise `ulimit -n`, or cap",
    "http_429": "the server refused for load; lower the rate, or raise its limit",
    "wrong_model": "the server does not know the model; see its /v1/models",
    "http_4xx": "the server refused the request",
    "http_5xx": "the server failed",
    "html_answer": "a web page came back: the URL is not that of an OpenAI-compatible API",
    "no_stream": "the answer was no event stream: the server ignores `stream: true`",
    "bad_http": "what came back is not HTTP",
    "bad_json": "an event was not JSON",
    "server_error": "the server reported an error inside the stream",
    "disconnected": "the connection ended before the answer did",
    "stalled": "nothing was heard for the stall limit",
    "timeout": "the answer was not over at the request limit",
    "no_tokens": "the answer ended without a token",
}
NOTES = {
    "missing_usage": "no `usage` in the answer: tokens are counted by chunks, which may hold several",
    "tokens_merged": "chunks held several tokens each, and the server did not say how many: ITL is between chunks",
    "short_output": "fewer tokens than asked",
    "long_output": "more tokens than asked",
    "other_model": "the answer names another model than was asked for",
    "no_done": "the stream ended without [DONE]",
    "stale_connection": "sent again, since the server had closed an idle connection",
    "prompt_tokens_differ": "the server counts the prompt's tokens differently: another tokenizer, or a template",
    "replacement_chars": "the text holds U+FFFD: the server cut a character apart",
}
RETRIED = ("unreachable", "http_429", "http_503")
"""What `max_retries` sends again."""


def failure_of_status(status: int, body: str) -> str:
    """The kind of failure that an HTTP status other than 200 stands for."""
    if status == 429:
        return "http_429"
    if status in (400, 404) and "model" in body.lower() and ("exist" in body.lower() or "not found" in body.lower()):
        return "wrong_model"
    if body.lstrip()[:1] == "<":
        return "html_answer"
    return "http_5xx" if status >= 500 else "http_4xx"
