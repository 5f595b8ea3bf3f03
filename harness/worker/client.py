"""The parent's side of a worker: start it, ask it, notice when it ends or hangs.

Every failure of the process itself becomes a WorkerError with its kind: `killed` (signal), `crashed` (exit code),
`hang` (nothing heard for the time limit). An error that the worker reports about its input becomes ScenarioError, and
one about the disk StorageError, since no other cell could be stored either.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from harness.errors import ScenarioError, StorageError, WorkerError
from harness.worker import protocol

Progress = Callable[[int, int, str], None]
EXIT_GRACE_S = 5.0
LOG_TAIL_BYTES = 2000


class Worker:
    """A running worker process. Use as a context manager; leaving it ends the process."""

    def __init__(self, backend: str) -> None:
        try:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker; see close()
        except OSError as error:
            raise StorageError(f"no temporary file for a worker's log ({error}); free some space, or set TMPDIR") from None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.worker", backend, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone, which then ends the worker
        )
        self._messages: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, command: str, *, timeout_s: float, progress: Progress | None = None, **arguments: Any) -> Any:
        """Send a command and wait for its result.

        Raises WorkerError when the process ends or stays silent for `timeout_s`, ScenarioError when the worker
        says that what it was given is wrong, StorageError when it could not store a file.
        """
        try:
            protocol.send(self._process.stdin, {"command": command, **arguments})
        except (BrokenPipeError, OSError):
            raise self._ended() from None
        while True:
            try:
                message = self._messages.get(timeout=timeout_s)
            except queue.Empty:
                self.close(grace_s=0.0)
                raise WorkerError("hang", f"no sign of life for {timeout_s:g} s; the worker was ended") from None
            if message is None:
                raise self._ended()
            if message["event"] == "result":
                return message["result"]
            if message["event"] == "error":
                raise reported(message)
            if progress is not None:
                progress(message["done"], message["total"], message["what"])

    def close(self, grace_s: float = EXIT_GRACE_S) -> None:
        """End the process and everything it started."""
        if self._process.poll() is None and grace_s > 0:
            try:
                protocol.send(self._process.stdin, {"command": "exit"})
                self._process.wait(timeout=grace_s)
            except (OSError, subprocess.TimeoutExpired):
                pass
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            message = protocol.parse(line)
            if message is not None:
                self._messages.put(message)
        self._messages.put(None)

    def _ended(self) -> WorkerError:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory is the usual cause)" if name == "SIGKILL" else ""
            return WorkerError("killed", f"worker ended by {name}{hint}{self._tail()}")
        return WorkerError("crashed", f"worker ended with exit code {code}{self._tail()}")

    def _tail(self) -> str:
        self._log.seek(0, os.SEEK_END)
        size = self._log.tell()
        self._log.seek(max(0, size - LOG_TAIL_BYTES))
        text = self._log.read().decode(errors="replace").strip()
        return f"; its last words: {text.splitlines()[-1]}" if text else ""


def reported(message: dict) -> Exception:
    """The exception that an `error` event stands for."""
    if message["is_input"]:
        return ScenarioError([message["message"]])
    if message["kind"] == StorageError.__name__:
        return StorageError(message["message"])
    return WorkerError(message["kind"], message["message"])
