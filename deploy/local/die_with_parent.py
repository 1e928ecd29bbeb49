"""Exec a program that the kernel kills when the process that started it ends, for any reason.

Run as a script: `python die_with_parent.py PARENT_PID PROGRAM [ARGUMENT ...]`.  It imports nothing of the project, so
that it adds only milliseconds to a start.  Only Linux has parent-death signals; elsewhere (macOS) the program runs
without one.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have ended before the signal was set.
        if os.getppid() != parent_pid:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
