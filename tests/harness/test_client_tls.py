"""https: the client checks the certificate, and measures through TLS as through a plain socket."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from harness.mock import MockOptions, serve_mock
from load_cases import load, planned

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@contextmanager
def tls_in_front_of(url: str, certificate):
    """A TLS server that passes bytes on to `url`; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def copy(source, target) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()

    async def serve(reader, writer) -> None:
        parts = urlsplit(url)
        inner_reader, inner_writer = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)

    async def listen() -> None:
        server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(listen()), loop.run_forever()), daemon=True)
    thread.start()
    ready.wait()
    yield port[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_a_load_over_tls(tmp_path, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with serve_mock(MockOptions()) as server, tls_in_front_of(server.url, certificate) as port:
        _, outcomes = load(f"https://localhost:{port}/v1", tmp_path, planned(12))
    assert all(o.failure is None and len(o.chunk_times_ns) == 8 for o in outcomes)


def test_an_unknown_certificate_is_named(tmp_path, certificate):
    with serve_mock(MockOptions()) as server, tls_in_front_of(server.url, certificate) as port:
        _, outcomes = load(f"https://localhost:{port}/v1", tmp_path, planned(2))
    assert {o.failure for o in outcomes} == {"unreachable"} and "certificate" in outcomes[0].detail
