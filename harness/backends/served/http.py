"""Small questions to a server over HTTP, outside of any measurement.

In: URL, path, JSON. Out: parsed JSON, or `HttpProblem` with the kind of failure in the load client's words and what to do.
"""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from harness.client.failures import failure_of_status

TIMEOUT_S = 60.0
SHOWN = 200


class HttpProblem(Exception):
    """An answer that is none. `kind`: one of harness.client.failures.FAILURES."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Server:
    """Where an API is: `url` ends in /v1; headers carry the key and are never recorded."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> str:
        """Without /v1: /health and /metrics lie there."""
        return self.url.removesuffix("/v1")

    def get(self, url: str, timeout_s: float = TIMEOUT_S) -> str:
        """The body of a GET; HttpProblem for anything but 200."""
        return self._open(urllib.request.Request(url, headers=self.headers), timeout_s)

    def get_json(self, path: str) -> dict:
        """GET below /v1."""
        return _parsed(self.get(self.url + path), self.url + path)

    def post(self, path: str, body: dict, timeout_s: float = TIMEOUT_S) -> dict:
        """POST below /v1."""
        headers = self.headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode(), headers=headers)
        return _parsed(self._open(request, timeout_s), self.url + path)

    def _open(self, request: urllib.request.Request, timeout_s: float) -> str:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            kind = failure_of_status(error.code, body)
            raise HttpProblem(kind, f"{request.full_url}: HTTP {error.code}: {_message(body)}") from None
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise HttpProblem("unreachable", f"{request.full_url}: {reason}; is the server up, and is the URL right?") from None


def server_of(url: str, key: str | None = None) -> Server:
    """With /v1 at the end, whichever way it was given."""
    trimmed = url.rstrip("/")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Server(trimmed if trimmed.endswith("/v1") else f"{trimmed}/v1", headers)


def _parsed(text: str, place: str) -> dict:
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return data
    kind = "html_answer" if text.lstrip()[:1] == "<" else "bad_json"
    told = "a web page" if kind == "html_answer" else f"no JSON object: {text[:SHOWN]!r}"
    raise HttpProblem(kind, f"{place}: answers {told}; name the address of an OpenAI-compatible API, up to and with /v1")


def _message(body: str) -> str:
    """What an error in OpenAI's form says; the beginning of anything else."""
    try:
        return str(json.loads(body)["error"]["message"])[:SHOWN]
    except (ValueError, KeyError, TypeError):
        return " ".join(body.split())[:SHOWN]
