"""The kinds of failure that `harness` reports, one class each, with the exit code that each ends in.

Exit codes: 0 ok, 1 regression, 2 usage or scenario error, 3 invalid or nothing measured,
4 baseline missing or not comparable, 5 infrastructure failure. A message says place, rule, value and next step.
"""


class HarnessError(Exception):
    """Base of every failure that ends a command with a message instead of a traceback."""

    exit_code = 5


class UsageError(HarnessError):
    """A command line that cannot be carried out: unknown filter, missing file, folder already in use."""

    exit_code = 2


class ScenarioError(HarnessError):
    """A scenario, or a checkpoint that it names, is wrong. Holds one line a problem."""

    exit_code = 2

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class NothingMeasuredError(HarnessError):
    """The run ended without one valid record."""

    exit_code = 3


class RunFolderError(HarnessError):
    """A run folder cannot be read: not one, of another schema version, or damaged beyond its last line."""

    exit_code = 4


class StorageError(HarnessError):
    """A record could not be stored (disk full, folder removed). What was recorded before stays readable."""


class WorkerError(HarnessError):
    """A worker process ended, hung or answered out of turn. Ends one cell, not the run."""

    def __init__(self, kind: str, message: str):
        self.kind = kind
        super().__init__(message)


class InterruptedRunError(HarnessError):
    """The user stopped the run (Ctrl-C). What was recorded is kept; `--resume` goes on."""


class ProfileError(HarnessError):
    """A profiler is missing, too old, hung or was killed, or what it wrote cannot be read. The cell is recorded as failed."""
