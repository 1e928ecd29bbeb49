"""Settings of the process that make the forward pass on a CPU faster.  No torch here."""

import ctypes
from typing import Final

MEGABYTE: Final = 2**20
# More than the activations of a batch of eight.
KEPT_BYTES: Final = 512 * MEGABYTE
# From glibc's malloc.h.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8


def keep_freed_memory(kept_bytes: int = KEPT_BYTES) -> bool:
    """Let malloc keep freed memory for the next forward pass; return whether the C library can.

    glibc maps large blocks anew for each allocation and unmaps them when they are freed, so the kernel clears the
    memory of every activation and handles a page fault for each 4 KB of it: a third of the CPU time of a large batch.
    The first arena alone keeps blocks above 64 MB, so a process that has no other threads yet keeps most.

    Args:
        kept_bytes: blocks up to this size are kept, and this many free bytes at the end of the heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {M_MMAP_THRESHOLD: kept_bytes, M_TRIM_THRESHOLD: kept_bytes, M_ARENA_MAX: 1}
    return all(mallopt(option, value) == 1 for option, value in options.items())
