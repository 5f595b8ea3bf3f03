"""The worker's side: read commands from standard input, answer on what was standard output.

Anything that a library prints goes to standard error instead, so that it cannot break the protocol. The worker ends
when its parent does, however that ended.
"""

import contextlib
import errno
import os
import sys
import time
import traceback

from harness.backends import open_backend
from harness.errors import HarnessError, ScenarioError, StorageError, WorkerError
from harness.process import end_with
from harness.worker import protocol

PROGRESS_INTERVAL_S = 0.2
"""Progress is told this often at most: it runs between engine steps, inside the measured wall time."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Serve commands until `exit` or the parent is gone."""
    backend_name, parent = sys.argv[1], int(sys.argv[2])
    end_with(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Before torch is imported: packing weights leaves holes in fixed segments, 6 GB of them for Mixtral-8x7B.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    backend = open_backend(backend_name)

    last_told_s = 0.0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last_told_s
        if time.monotonic() - last_told_s < PROGRESS_INTERVAL_S:
            return
        last_told_s = time.monotonic()
        if os.getppid() != parent:
            os._exit(1)  # nobody is left to hear the result
        protocol.send(answers, {"event": "progress", "done": done, "total": total, "what": what})

    for line in sys.stdin:
        message = protocol.parse(line)
        if message is None or message["command"] == "exit":
            break
        arguments = {key: value for key, value in message.items() if key != "command"}
        try:
            result = getattr(backend, message["command"])(progress=progress, **arguments)
            protocol.send(answers, {"event": "result", "result": result})
        except Exception as error:  # the boundary of the process: whatever it was, the parent must hear of it
            with contextlib.suppress(OSError):  # the log is a file, and the disk may be full
                traceback.print_exc()
            protocol.send(answers, describe(error, backend))
    if hasattr(backend, "close"):
        backend.close()


def describe(error: Exception, backend) -> dict:
    """The `error` event for an exception that a command raised."""
    is_input = isinstance(error, ScenarioError) or backend.is_input_error(error)
    kind = _kind(error)
    text = str(error) or repr(error)
    if not isinstance(error, HarnessError) and not is_input:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{text} (in {os.path.basename(frame.filename)}:{frame.lineno})"
    return {"event": "error", "kind": kind, "message": text, "is_input": is_input}


def _kind(error: Exception) -> str:
    if isinstance(error, WorkerError):  # of a process that the backend itself started
        return error.kind
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return StorageError.__name__
    return "out_of_memory" if _is_out_of_memory(error) else type(error).__name__


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


if __name__ == "__main__":
    main()
