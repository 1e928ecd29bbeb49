"""Exec a program that the kernel kills when the process that started it ends, for any reason.

Run as a script: `python die_with_parent.py PARENT_PID NICENESS PROGRAM [ARGUMENT ...]`.  It imports nothing of the
project, so that it adds only milliseconds to a start.  Only Linux has parent-death signals; elsewhere (macOS) the
program runs without one.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, niceness, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if niceness:
        lower_priority(niceness)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have ended before the signal was set.
        if os.getppid() != parent_pid:
            sys.exit(1)
    os.execvp(command[0], command)


def lower_priority(niceness: int) -> None:
    """Lower the CPU priority of this process and of its session.

    Linux weighs sessions against each other by a niceness of their own (sched(7), "The autogroup feature"): that of a
    process only counts within its session.
    """
    os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    main()
