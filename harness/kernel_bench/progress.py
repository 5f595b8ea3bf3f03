"""Lines for the person who waits, on standard error.

harness/progress.py's are for runs of a scenario and need pydantic, which a GPU host may lack.
"""

import sys

from harness.kernel_bench.rows import OK


def say(message: str) -> None:
    """One line."""
    print(message, file=sys.stderr, flush=True)


def say_row(row: dict) -> None:
    """One line a row."""
    if row["status"] == OK:
        what = f"{row['us_median']:9.1f} us  {row['ratio_to_limit']:.2f}x the limit"
    else:
        what = f"{row['status']}: {row['reason']}"
    say(f"{row['tokens']:5d} tokens  {row['format']:14} {row['kernel']:26} {what}")
