"""The memory allocator of a process: how much of what was freed it keeps.  Linux with glibc; elsewhere nothing happens.

glibc makes an arena for each thread that meets a busy one, up to eight a core, and keeps in each what was freed below
something that is still used; and as large arrays are freed it raises the size from which it maps memory, and returns
it, up to 32 MB.

Measured on a host's work (resize, blend and encode 640x480 and 4000x3000 on 8 threads; 104 MB before, 2 GB at the
peak): 225 to 270 MB remained; 165 to 190 with two arenas; 130 to 150 with two arenas and fixed sizes; 107 to 114 after
return_free_memory() too, which took 1 to 20 ms (212 to 252 without the rest).  CPU time did not differ.

A gateway process that was sent 400 hostile bodies of up to 32 MB kept 117 MB of them, and with both limits less than 8.

An engine on a CPU is different: with fixed sizes a forward pass of small convolutions took 63 to 67 ms of CPU time
instead of 46 to 48, because each activation was mapped anew.  With two arenas alone it took as long as without, and
return_free_memory() brought it from 274 to 315 MB back to 250 to 283.
"""

import ctypes
import sys

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
_TRIM_BYTES = 8 << 20
HOST_MAPPED_BYTES = 1 << 20
# More than one recut frees.  No setting: it bounds nothing that a client can cause, since a renderer keeps no more than
# its largest recut has used, and gives that back when it is idle.
RECUT_KEPT_BYTES = 512 << 20
# More than the activations of a batch of eight.
FORWARD_KEPT_BYTES = 512 << 20


def limit_kept_memory(*, mapped_bytes: int | None) -> None:
    """Limit what the allocator keeps of freed memory.  Call it before the first thread starts.

    Args:
        mapped_bytes: arrays of at least this size go back to the system when they are freed, and cost page faults when
            they are allocated; HOST_MAPPED_BYTES, or None for a process that allocates large arrays all the time.
    """
    libc = _load_libc()
    if libc is None:
        return
    libc.mallopt(_M_ARENA_MAX, _ARENAS)
    if mapped_bytes is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, mapped_bytes)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def keep_freed_memory(kept_bytes: int, *, arenas: int | None = None) -> None:
    """Let the allocator keep freed memory, up to so much in each arena, until return_free_memory() is called.

    Otherwise it maps large blocks anew for each allocation and unmaps them when they are freed, so the kernel clears
    their memory and handles a page fault for each 4 KB of it: a third of the CPU time of a large batch on a CPU.

    A recut in 640x480 met 10,700 page faults, one in 12 megapixels 175,000; how much of their CPU time that is was not
    measured well: runs on a busy machine differed by more.  A renderer held 494 instead of 307 MB after them (one run
    each), and 302 after return_free_memory().  That does not reach the end of another arena than the first one, which
    is at most 64 MB.

    Args:
        kept_bytes: blocks up to this size are kept, and this many free bytes at the end of an arena.
        arenas: the most that there may be; the first one alone keeps blocks above 64 MB, so a process that allocates
            such ones asks for one, before its first thread starts.
    """
    libc = _load_libc()
    if libc is None:
        return
    libc.mallopt(_M_MMAP_THRESHOLD, kept_bytes)
    libc.mallopt(_M_TRIM_THRESHOLD, kept_bytes)
    if arenas is not None:
        libc.mallopt(_M_ARENA_MAX, arenas)


def return_free_memory() -> None:
    """Give what the allocator keeps back to the system; takes milliseconds, for idle times."""
    libc = _load_libc()
    if libc is not None:
        libc.malloc_trim(0)


def _load_libc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
