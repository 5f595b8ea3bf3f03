"""Carry out a plan: scenario -> run folder with records and report.

`execute` is the whole of `harness run`; `prepare` alone is `harness plan`.
"""

from harness.run.execute import Outcome, RunOptions, execute
from harness.run.prepare import Prepared, prepare

__all__ = ["Outcome", "Prepared", "RunOptions", "execute", "prepare"]
