"""Limits of the system on this process: CPU time, memory, and an end with its parent."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def limit_cpu(seconds: float) -> None:
    """Let the system kill this process by SIGPROF after this CPU time from now."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def unlimit_cpu() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)


def limit_memory(nbytes: int) -> None:
    """Let allocations fail beyond this size of all private writable memory of this process."""
    if sys.platform == "linux":  # elsewhere it does not count what malloc() maps
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes if hard < 0 else min(nbytes, hard), hard))


def unlimit_memory() -> None:
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def private_bytes() -> int:
    """Return the size of all private writable memory of this process, as limit_memory() counts it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return 1024 * int(line.split()[1])
    return 0


def load_libc() -> ctypes.CDLL | None:
    """Return the C library on Linux, before a fork that needs it."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(libc: ctypes.CDLL | None, parent_pid: int) -> None:
    """Let the system kill this process when its parent dies, or end it if that has happened."""
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)


def prefer_for_out_of_memory() -> None:
    """Let the system kill this process before others if its memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
