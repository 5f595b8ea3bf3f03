"""Start a server and keep it until the process is asked to end.

In: an engine, a codec, limits, an open socket. Out: `ready(url)` is called once the port is open. Ctrl-C and SIGTERM end
it: no new requests, those under way are cancelled, the engine's thread ends.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable

from aiohttp import web

from harness.errors import HarnessError, UsageError
from harness.heap import freeze_heap
from harness.serve.app import Served, make_app
from harness.serve.engine_thread import EngineThread, ServedEngine
from harness.serve.generate import Generator, Limits
from harness.serve.metrics import ServerMetrics
from harness.serve.text import Codec

BACKLOG = 4096
SHUTDOWN_S = 2.0


def serve_until_ended(
    engine: ServedEngine,
    *,
    served: Served,
    codec: Codec | None,
    limits: Limits,
    listening: socket.socket,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(engine, served, codec, limits, listening=listening, ready=ready))


async def _serve(engine, served: Served, codec, limits: Limits, *, listening: socket.socket, ready) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    metrics = ServerMetrics(served.name)
    metrics.kv_bytes.set(engine.kv_cache_bytes)
    metrics.weight_bytes.set(engine.weight_bytes)
    thread = EngineThread(engine, loop, metrics.stepped)
    generator = Generator(thread, codec, limits, metrics)
    runner = web.AppRunner(make_app(generator, served), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    freeze_heap()
    thread.start()
    try:
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
        ready(_url(listening))
        await ended.wait()
        generator.is_stopping = True
    finally:
        await runner.cleanup()
        await asyncio.to_thread(thread.stop)


def listen(host: str, port: int) -> socket.socket:
    """An open socket, so that a port in use is told before a model is waited for."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: no such address ({error.strerror})") from None
    except (OSError, OverflowError) as error:
        raise HarnessError(
            f"--host {host} --port {port}: cannot be listened on ({error}); choose another, 0 takes a free one"
        ) from None
    return opened


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
