"""What child processes of the harness share: they end when their parent does, however that ended.

Linux kills the child by itself; elsewhere the child notices at the end of its input. Imports nothing heavy.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Have Linux kill this process when its parent `parent` ends; at once if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
