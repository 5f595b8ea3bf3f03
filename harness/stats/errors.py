"""The kind of mistake that `harness.stats` reports."""

from harness.errors import HarnessError


class StatsError(HarnessError):
    """Values that no statistic may be made of: NaN or infinite, of the wrong shape, or not paired."""

    exit_code = 3
