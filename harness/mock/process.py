"""Start the mock server as a process and stop it: `with serve_mock(options) as mock: mock.url`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from harness.errors import WorkerError
from harness.mock.options import MockOptions

STOP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Mock:
    """A running mock server."""

    url: str
    pid: int


@contextmanager
def serve_mock(options: MockOptions) -> Iterator[Mock]:
    """Run the mock until the block ends. Raises WorkerError when it does not come up."""
    command = [sys.executable, "-m", "harness.mock", "--options", json.dumps(asdict(options)), "--parent", str(os.getpid())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise WorkerError("crashed", f"the mock server did not start (exit code {process.wait()}); its message is above")
        yield Mock(json.loads(line)["url"], process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
