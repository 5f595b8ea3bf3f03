"""The client process: one job as JSON on standard input, progress and the result as JSON lines on standard output.

Imports no torch, numpy or pydantic: what this process holds and does is what distorts a measurement.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import uvloop

from harness.client.load import Load
from harness.client.types import ClientOptions, Endpoint
from harness.heap import freeze_heap
from harness.process import end_with
from harness.worker import protocol

PROGRESS_S = 1.0
FAULT_EXIT = 70  # sysexits.h, EX_SOFTWARE


async def run(job: dict) -> dict:
    """Carry out a job; gives the result event."""
    asyncio.get_running_loop().set_exception_handler(_end_at_once)
    endpoint = Endpoint(**job["endpoint"] | {"headers": tuple(map(tuple, job["endpoint"]["headers"]))})
    load = Load(endpoint, ClientOptions(**job["options"]), Path(job["outcomes"]))
    teller = asyncio.get_running_loop().create_task(_tell(load, job["num_planned"]))
    freeze_heap()
    gc.disable()  # a collection over thousands of streams would delay time stamps; nothing here is cyclic
    try:
        if job["warmup_plan"] is not None:
            await load.warm_up(Path(job["warmup_plan"]), job["warmup_concurrency"])
        overhead = await load.measure(Path(job["plan"]), is_closed=job["is_closed_loop"])
    finally:
        load.close()
        teller.cancel()
    return {
        "event": "result",
        "start_ns": load.start_ns,
        "end_ns": load.end_ns,
        "num_ended": load.num_ended,
        "overhead": asdict(overhead),
    }


def _end_at_once(loop, context: dict) -> None:
    """A fault of the client's own would leave requests that never end; the parent names it by the last line."""
    error = context.get("exception")
    if error is not None:
        traceback.print_exception(error)
    print(f"{context['message']}: {error!r}", file=sys.stderr, flush=True)
    os._exit(FAULT_EXIT)


async def _tell(load: Load, total: int) -> None:
    """Say every second how far it is: the parent takes silence for a hang."""
    while True:
        what = f"requests ended ({load.num_failed} failed)" if load.num_failed else "requests ended"
        protocol.send(sys.stdout, {"event": "progress", "done": load.num_ended, "total": total, "what": what})
        await asyncio.sleep(PROGRESS_S)


def main() -> None:
    """Read the job, do it, answer."""
    job = json.loads(sys.stdin.readline())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a stream is a file descriptor; 1024 is the usual soft limit
    end_with(job["parent"])
    with contextlib.suppress(BrokenPipeError):
        protocol.send(sys.stdout, uvloop.run(run(job)))


if __name__ == "__main__":
    main()
