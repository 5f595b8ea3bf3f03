"""Memory of the worker process, as the operating system counts it."""

import resource
import sys


def peak_rss_bytes() -> int:
    """Most resident memory that this process has held since it started."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
