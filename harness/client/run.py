"""The parent's side of a load: write the plan, start the client process, listen to it, gather what it left."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from harness.client.plan_file import PlanSummary, write_plan
from harness.client.pool import Address
from harness.client.types import ClientOptions, ClientOverhead, Endpoint, LoadResult
from harness.errors import UsageError, WorkerError
from harness.worker import protocol
from harness.workload.planned import PlannedRequest

DEFAULT_WARMUP_CONCURRENCY = 16
MESSAGE_BYTES = 2000


def run(
    endpoint: Endpoint,
    planned: Iterable[PlannedRequest],
    options: ClientOptions,
    *,
    folder: Path,
    warmup: Iterable[PlannedRequest],
    progress: Callable[[int, int, str], None] | None,
) -> LoadResult:
    """See `harness.client.run_load`."""
    Address(endpoint.url, endpoint.api, endpoint.headers)  # refuses what cannot be a URL before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    plan, warmup_plan, outcomes = folder / "load.plan", folder / "warmup.plan", folder / "outcomes.jsonl"
    summary = write_plan(plan, planned, endpoint, options.extra_body)
    warming = write_plan(warmup_plan, warmup, endpoint, options.extra_body)
    _check(summary, options)
    job = {
        "endpoint": asdict(endpoint),
        "options": asdict(options),
        "plan": str(plan),
        "warmup_plan": str(warmup_plan) if warming.num_requests else None,
        "warmup_concurrency": options.warmup_concurrency or options.concurrency or DEFAULT_WARMUP_CONCURRENCY,
        "outcomes": str(outcomes),
        "num_planned": summary.num_requests,
        "is_closed_loop": summary.is_closed_loop,
        "parent": os.getpid(),
    }
    try:
        answer = _ask(job, options.silence_timeout_s, progress)
    finally:
        plan.unlink()
        warmup_plan.unlink()
    return _result(answer, endpoint, options, outcomes, summary)


def _result(answer: dict, endpoint: Endpoint, options: ClientOptions, outcomes: Path, summary: PlanSummary) -> LoadResult:
    cost = answer["overhead"]
    return LoadResult(
        endpoint=endpoint,
        options=options,
        outcomes_path=outcomes,
        num_planned=summary.num_requests,
        num_not_sent=summary.num_requests - answer["num_ended"],
        start_ns=answer["start_ns"],
        end_ns=answer["end_ns"],
        overhead=ClientOverhead(**cost | {"loop_lag_ms": tuple(cost["loop_lag_ms"])}),
        is_closed_loop=summary.is_closed_loop,
    )


def _check(summary: PlanSummary, options: ClientOptions) -> None:
    if summary.num_requests == 0:
        raise UsageError("a load needs at least one request; plan some")
    if summary.is_closed_loop and options.concurrency is None:
        raise UsageError("a closed loop needs ClientOptions.concurrency: the number of requests kept in flight")
    if options.concurrency is not None and options.concurrency < 1:
        raise UsageError(f"ClientOptions.concurrency: must be at least 1 (got {options.concurrency})")


def _ask(job: dict, silence_s: float, progress) -> dict:
    """Run the job in a client process; its result."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        messages: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, messages), daemon=True).start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            return _listen(messages, process, silence_s, progress, log)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _listen(messages: queue.Queue, process, silence_s: float, progress, log) -> dict:
    while True:
        try:
            message = messages.get(timeout=silence_s)
        except queue.Empty:
            raise WorkerError("hang", f"the load client said nothing for {silence_s:g} s; it was ended") from None
        if message is None:
            code = process.wait()
            log.seek(0)
            words = log.read()[-MESSAGE_BYTES:].decode(errors="replace").strip().splitlines() or ["none"]
            raise WorkerError("crashed", f"the load client ended with code {code}; its last words: {words[-1]}")
        if message["event"] == "result":
            return message
        if progress is not None:
            progress(message["done"], message["total"], message["what"])


def _read(process, messages: queue.Queue) -> None:
    try:
        for line in process.stdout:
            message = protocol.parse(line)
            if message is not None:
                messages.put(message)
    except ValueError:
        pass  # closed: the parent has what it needs
    messages.put(None)
