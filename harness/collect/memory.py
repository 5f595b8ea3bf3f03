"""Memory of this process, as the operating system counts it.

On Linux from /proc: `ru_maxrss` of a process that was started by a large one begins at the size of that one.
"""

import resource
import sys


def peak_rss_bytes() -> int:
    """Most resident memory that this process has held since it started."""
    high = _status_bytes("VmHWM")
    if high is not None:
        return high
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int:
    """Resident memory of this process now; the peak where the system does not say."""
    return _status_bytes("VmRSS") or peak_rss_bytes()


def _status_bytes(key: str) -> int | None:
    """A line of /proc/self/status such as `VmHWM:    1234 kB`; None where there is none."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:")), None)
    except FileNotFoundError:
        return None
