"""A server that answers what a test tells it, for the ways in which a URL is no OpenAI-compatible API."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, str]


@contextlib.contextmanager
def fake_api(answer: Callable[[str, dict | None], Answer]) -> Iterator[str]:
    """The URL, up to and with /v1, of a server that gives `answer(path, body)`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._reply(None)

        def do_POST(self):
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *arguments):
            pass

        def _reply(self, body: dict | None) -> None:
            status, text = answer(self.path, body)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def models(*names: str) -> str:
    """The body of /v1/models."""
    return json.dumps({"object": "list", "data": [{"id": name} for name in names]})
