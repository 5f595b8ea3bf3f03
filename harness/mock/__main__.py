"""Entry point of the mock server: prints {"url": ...} when it listens, serves until it is told to stop.

By hand: `python -m harness.mock --options '{"ttft_ms": 50, "itl_ms": 10, "port": 8000}'`.
"""

import argparse
import asyncio
import gc
import json
import resource
import signal

import uvloop

from harness.heap import freeze_heap
from harness.mock.options import MockOptions
from harness.mock.server import Connection, Server
from harness.process import end_with

BACKLOG = 4096


async def serve(options: MockOptions) -> None:
    """Listen, say where, and serve until SIGTERM or SIGINT."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    state = Server(options, loop)
    listening = await loop.create_server(lambda: Connection(state), options.host, options.port, backlog=BACKLOG)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = listening.sockets[0].getsockname()[:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    freeze_heap()
    gc.disable()  # a collection over thousands of streams would delay chunks by milliseconds; nothing here is cyclic
    await stop.wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="Mock of an OpenAI-compatible streaming server; see harness/mock.")
    parser.add_argument("--options", default="{}", help="MockOptions as JSON")
    parser.add_argument("--parent", type=int, help="End when this process does")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        end_with(arguments.parent)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(serve(MockOptions(**json.loads(arguments.options))))


if __name__ == "__main__":
    main()
