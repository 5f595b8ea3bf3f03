"""Run `python -m harness` as a process of its own, as a user would, from any folder.

In: arguments. Out: exit code, standard output, standard error. One thread, so that tests do not fight over processors.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 120.0


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with the checkout on the path, one thread, and `changes`."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return plain | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | changes


def command(*arguments: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def run_harness(*arguments: object, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    """Run to the end, without a terminal and without input."""
    options.setdefault("env", environment())
    options.setdefault("timeout", TIME_LIMIT_S)
    return subprocess.run(command(*arguments), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def assert_refused(done: subprocess.CompletedProcess, *words: str, code: int = 2) -> None:
    """The command ended with `code` and a message that holds `words`, without a traceback or a result."""
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, f"{word!r} is not in: {done.stderr}"
