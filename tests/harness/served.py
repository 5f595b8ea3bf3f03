"""A real `harness serve` in a process of its own, for the tests that talk to it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

from commands import command, environment

START_S = 120


@contextlib.contextmanager
def harness_serve(*arguments: str) -> Iterator[dict]:
    """The `ready` line of a server ({"url", "model", "pid"}); ended on leaving, and it must end well."""
    line = command("serve", *arguments, "--port", 0, "--json")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        ready = process.stdout.readline()
        assert ready, f"harness serve ended with {process.wait(timeout=START_S)} before it was ready"
        yield json.loads(ready)
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=30)
        finally:
            process.kill()
            process.stdout.close()
    assert code == 0
