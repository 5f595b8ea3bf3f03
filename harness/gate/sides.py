"""The parent's end of one side: start it in its tree, ask it, notice when it ends.

In: a tree (a checkout of some commit), a scenario. Out: the cells that it plans and, one at a time, records.
Raises SideError with what the commit said: 2 for its scenario errors, 4 where the commit cannot be driven, 5 where it died.
"""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

SCRIPT = Path(__file__).with_name("side.py")
CANNOT_DRIVE = ("ImportError", "ModuleNotFoundError", "AttributeError", "TypeError", "ValidationError")


class SideError(HarnessError):
    """One side cannot measure; `exit_code` says whether the input, the commit or the machine is at fault."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout and how it is called in messages and reports."""

    root: Path
    label: str


class Side:
    """A running side. Use as a context manager; leaving it ends the process and its worker."""

    def __init__(self, tree: Tree, folder: Path) -> None:
        self.tree, self.folder = tree, folder
        self.info: dict = {}
        path = os.pathsep.join([str(tree.root), str(tree.root / "kernels")])
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree.root,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def prepare(self, scenario: dict, *, only: str | None, run_id: str, partner: str) -> list[dict]:
        """Plan; gives the cells. Starts the run's folder. `partner` is the other side's run id."""
        folder = str(self.folder.resolve())
        arguments = {"scenario": scenario, "only": only, "folder": folder, "run_id": run_id, "partner": partner}
        answer = self._ask("prepare", **arguments)
        self.info = answer["info"]
        return answer["cells"]

    def measure(self, cell_id: str, repeat: int) -> dict:
        """One record."""
        return self._ask("measure", cell_id=cell_id, repeat=repeat)

    def release(self) -> None:
        """Give the memory of the loaded model back."""
        self._ask("release")

    def finish(self) -> None:
        """No more repeats: end the worker, mark the run as finished."""
        self._ask("finish")

    def close(self) -> None:
        """End the process; its worker ends with it."""
        if self._process.poll() is None:
            try:
                self._send("exit")
                self._process.wait(timeout=10)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _send(self, command: str, **arguments) -> None:
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()

    def _ask(self, command: str, **arguments):
        try:
            self._send(command, **arguments)
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise SideError(f"{self.tree.label}: its process ended during `{command}` (exit code {self._process.wait()})", 5)
        answer = json.loads(line)
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        if error["kind"] in CANNOT_DRIVE:
            raise SideError(
                f"{self.tree.label}: cannot run this scenario ({error['kind']}: {error['message']}): not comparable", 4
            )
        raise SideError(f"{self.tree.label}: {error['message']}", error["exit_code"] or 5)
