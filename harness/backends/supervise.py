"""Runs a command and ends its whole process group when the caller is gone. Standard library only; run as a script.

argv: the number of a pipe that the caller holds open, then the command. The command has our standard input, output and
error. Ends with the command's exit code, or by its signal.
"""

import os
import select
import signal
import subprocess
import sys
import threading

LAST_LOOK_S = 0.05


def main() -> None:
    """Start, watch, wait."""
    watched, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(watched, False)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    try:
        code = subprocess.call(command)
    except OSError as error:
        sys.exit(f"{command[0]}: cannot be started ({error.strerror})")
    if select.select([watched], [], [], LAST_LOOK_S)[0]:  # the caller's end ended the command, before the thread saw it
        os.killpg(0, signal.SIGKILL)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _end_with(watched: int) -> None:
    """The pipe is never written to: reading ends when the other end is closed."""
    os.read(watched, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
