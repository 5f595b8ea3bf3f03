"""A worker without a process: the real backend and the real translation of errors, in the test's own process.

Stands in for `harness.worker.client.Worker` where a test makes hundreds of plans and starting processes is not its point.
"""

import json
from importlib import import_module

from harness.backends import open_backend
from harness.worker.__main__ import describe
from harness.worker.client import reported


def use_in_process_worker(monkeypatch) -> None:
    """From here on `harness.run.prepare` asks this stand-in."""
    monkeypatch.setattr(import_module("harness.run.prepare"), "Worker", InProcessWorker)


class InProcessWorker:
    """Answers `ask` like Worker; arguments and results go through JSON as they would through the pipe."""

    def __init__(self, backend: str) -> None:
        self._backend = open_backend(backend)

    def __enter__(self) -> "InProcessWorker":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ask(self, command: str, *, timeout_s: float, progress=None, **arguments):
        arguments = json.loads(json.dumps(arguments, allow_nan=False))
        try:
            result = getattr(self._backend, command)(progress=lambda *told: None, **arguments)
        except Exception as error:
            raise reported(describe(error, self._backend)) from error
        return json.loads(json.dumps(result, allow_nan=False))
