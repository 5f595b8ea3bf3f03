"""The kind of mistake that exchange reports."""

from harness.errors import UsageError


class ExchangeError(UsageError):
    """A file that is not what it was said to be, or a run without anything to export."""
