"""A program of ours in another environment: started under a supervisor, spoken to by JSON lines, ended with all it started.

In: a command line, environment changes, a log file. Out: `ask` as a worker is asked (harness.worker.protocol). Whatever
ends the caller, SIGKILL included, ends the whole group, because the supervisor notices that its pipe is closed.
"""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import WorkerError
from harness.worker import protocol

SUPERVISOR = Path(__file__).with_name("supervise.py")
TAIL_LINES = 4
WAIT_S = 5.0
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that point into our own environment."""


class Child:
    """A supervised process. `log` keeps what it printed; `changes` are variables set for it."""

    @classmethod
    def in_new_folder(cls, command: list[str], *, log_name: str, changes: dict[str, str]) -> "Child":
        """A process in a temporary folder of its own, which goes when it ends well."""
        folder = Path(tempfile.mkdtemp(prefix="harness-"))
        child = cls(command, log=folder / log_name, changes=changes, cwd=folder)
        child._folder = folder
        return child

    def __init__(self, command: list[str], *, log: Path, changes: dict[str, str], cwd: Path) -> None:
        self._folder: Path | None = None
        self.log, self.has_failed = log, False
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        watched, self._lifeline = os.pipe()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(watched), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                cwd=cwd,
                env=inherited | changes,
                pass_fds=(watched,),
                start_new_session=True,
            )
        os.close(watched)
        self._messages: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(
        self,
        command: str,
        *,
        timeout_s: float,
        on_progress: Callable[[dict], None],
        on_wait: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> Any:
        """Send a command and wait for its result; WorkerError when the process ends, fails or stays silent.

        `on_wait` is called every few seconds of silence: whoever waits for the caller can be told that it lives.
        """
        try:
            protocol.send(self._process.stdin, {"command": command, **arguments})
        except (BrokenPipeError, OSError):
            raise self.ended(command) from None
        while True:
            message = self._next_message(command, timeout_s, on_wait)
            if message is None:
                raise self.ended(command)
            if message["event"] == "result":
                return message["result"]
            if message["event"] == "error":
                self.has_failed = True
                raise WorkerError(message["kind"], f"{message['message']}{self.tail()}")
            on_progress(message)

    def _next_message(self, command: str, timeout_s: float, on_wait: Callable[[], None]) -> dict | None:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                return self._messages.get(timeout=min(left, WAIT_S))
            except queue.Empty:
                on_wait()
        self.has_failed = True
        self.close()
        raise WorkerError("hang", f"{command}: nothing heard for {timeout_s:g} s; it was ended{self.tail()}")

    def ended(self, during: str) -> WorkerError:
        """The error for a process that is gone."""
        code, self.has_failed = self._process.wait(), True
        self.close()
        return WorkerError("crashed", f"{during}: the process ended with {_shown(code)}{self.tail()}")

    def close(self) -> None:
        """End the process and everything it started; its folder stays where it failed, for the log."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError, OSError, ValueError):
                stream.close()
        if self._folder is not None and not self.has_failed:
            shutil.rmtree(self._folder, ignore_errors=True)

    def tail(self) -> str:
        """The last lines of the log that say something, the very last first, for a message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        told = [line.strip() for line in lines if line.strip(" ^~") and " DEBUG " not in line][-TAIL_LINES:]
        before = f" [before that: {' | '.join(told[:-1])}]" if told[:-1] else ""
        return f"; its last words: {told[-1]}{before} (whole log: {self.log})" if told else ""

    def wait_for(self, event: str, *, timeout_s: float, what: str, tick: Callable[[], None]) -> dict:
        """The message of that name, which the process sends by itself."""
        found: list[dict] = []

        def has_come() -> bool:
            with contextlib.suppress(queue.Empty):
                message = self._messages.get_nowait()
                found.extend([message] if message is not None and message.get("event") == event else [])
            return bool(found)

        self.wait_until(has_come, timeout_s=timeout_s, what=what, tick=tick)
        return found[0]

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_s: float, what: str, tick: Callable[[], None]) -> None:
        """Poll until ready; WorkerError when the process ends before, or time is up."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running:
                raise self.ended(what)
            if time.monotonic() > deadline:
                self.has_failed = True
                self.close()
                raise WorkerError("hang", f"{what}: not ready after {timeout_s:g} s{self.tail()}")
            tick()
            time.sleep(0.25)

    def _read(self) -> None:
        with contextlib.suppress(ValueError), self.log.open("a") as log:  # ValueError: closed while it was read
            for line in self._process.stdout:
                message = protocol.parse(line)
                if message is not None:
                    self._messages.put(message)
                else:  # a server's log, where it logs to its standard output
                    log.write(line)
                    log.flush()
        self._messages.put(None)


def _shown(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}"
