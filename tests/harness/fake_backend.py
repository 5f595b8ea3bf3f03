"""A backend for tests of the worker process: each command misbehaves in one way."""

import errno
import os
import signal
import sys
import time

from harness.errors import ScenarioError, StorageError


class Fake:
    """Commands by how they end."""

    def is_input_error(self, error: Exception) -> bool:
        return isinstance(error, KeyError)

    def echo(self, *, value, progress):
        for step in range(3):
            time.sleep(0.25)
            progress(step, 3, "echoing")
        return value

    def noise(self, *, progress):
        print("a library prints this")
        os.write(1, b"and this, not through Python\n")
        return "clean"

    def input_error(self, *, progress):
        raise ScenarioError(["model.safetensors: tensor x: holds NaN"])

    def bug(self, *, progress):
        raise ZeroDivisionError("division by zero")

    def disk_full(self, *, progress):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def not_stored(self, *, progress):
        raise StorageError("samples/x.parquet: could not be stored")

    def no_memory(self, *, progress):
        raise MemoryError()

    def die(self, *, progress):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, *, progress):
        print("last words", file=sys.stderr)
        os._exit(7)

    def hang(self, *, progress):
        time.sleep(3600)
