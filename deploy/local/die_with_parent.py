"""Become another program that ends when the process that started this one ends, however that happens.

Called as a script: `python leash.py PARENT_PID PROGRAM [ARGUMENT ...]`.  It imports nothing of the project, so that it
costs a child only milliseconds.  Where the kernel has no such leash (macOS), the program simply runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have ended before the leash was on.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
