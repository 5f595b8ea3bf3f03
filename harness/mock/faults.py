"""How the mock misbehaves on purpose, by name.

`answer` replaces the whole answer; the others change a stream: `keep` is the share of tokens sent before `end` happens.
"""

from dataclasses import dataclass
from typing import Literal

from harness.mock import answers


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of misbehaviour."""

    answer: bytes | None = None
    keep: float = 1.0
    end: Literal["finish", "disconnect", "hang", "no_done", "error_event", "bad_json"] = "finish"
    split: bool = False
    """Each chunk is written in small pieces, so that frames and characters are cut anywhere."""
    usage: bool = True


HTML = b"<!doctype html><html><body><h1>Welcome to nginx!</h1></body></html>"
FAULTS = {
    "http_429": Fault(answer=answers.error(429, "rate limit exceeded", "retry-after: 0.05\r\n")),
    "http_500": Fault(answer=answers.error(500, "CUDA error: an illegal memory access was encountered")),
    "html": Fault(answer=answers.whole(200, HTML, "text/html")),
    "no_stream": Fault(answer=answers.whole(200, b'{"object": "text_completion", "choices": [{"text": "hi"}]}')),
    "disconnect": Fault(keep=0.5, end="disconnect"),
    "hang": Fault(keep=0.5, end="hang"),
    "never": Fault(keep=0.0, end="hang"),
    "empty": Fault(keep=0.0),
    "short": Fault(keep=0.5),
    "error_event": Fault(keep=0.5, end="error_event"),
    "bad_json": Fault(keep=0.5, end="bad_json"),
    "no_done": Fault(end="no_done"),
    "no_usage": Fault(usage=False),
    "split": Fault(split=True),
}
NO_FAULT = Fault()
