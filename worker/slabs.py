"""Shared memory for pixels: one bounded pool, mapped by several processes, and the allocator of its parts.

A pool is a file without a name; other processes inherit its descriptor.  Pixels cross between processes as the offset
and the length of a slab, and are never copied or pickled.  No images and no sockets here.
"""

import bisect
import math
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.errors import ImageTooLarge, SharedMemoryFull

# Of a slab with less in it the pages are kept: the next one that is put there needs no page faults.
_MIN_RETURNED_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Slab:
    """A part of a pool, in bytes; the offset is a multiple of the page size."""

    offset: int
    nbytes: int


class SlabPool:
    """A shared-memory file and this process's mapping of it.  Pages take memory when they are first written."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self._map = mmap.mmap(fd, size_bytes)

    @classmethod
    def create(cls, size_bytes: int) -> Self:
        """Create a pool; other processes attach to it by its descriptor, which they inherit or receive."""
        fd = _create_file()
        os.ftruncate(fd, _round_up(size_bytes))
        return cls(fd, _round_up(size_bytes))

    @classmethod
    def attach(cls, fd: int, size_bytes: int) -> Self:
        """Map the pool of another process; `size_bytes` is the `size_bytes` of its SlabPool."""
        return cls(fd, size_bytes)

    def view(self, slab: Slab, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the slab as a writable array, without a copy; it must not be used after the slab is freed.

        Raises:
            ValueError: the array is larger than the slab.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if nbytes > slab.nbytes:
            raise ValueError(f"An array of {nbytes} bytes does not fit into a slab of {slab.nbytes}")
        # numpy releases the buffer of a mapping at once; a memoryview, which it keeps, prevents that close() unmaps it.
        return np.frombuffer(memoryview(self._map)[slab.offset : slab.offset + nbytes], dtype).reshape(shape)

    def write(self, slab: Slab, data: bytes) -> None:
        """Copy bytes to the start of a slab."""
        self._map[slab.offset : slab.offset + len(data)] = data

    def read(self, slab: Slab, nbytes: int) -> bytes:
        """Return a copy of the first bytes of a slab."""
        return self._map[slab.offset : slab.offset + nbytes]

    def return_memory(self, slab: Slab) -> None:
        """Give the pages of a slab back to the system; they read as zeros afterwards."""
        if hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE, slab.offset, _round_up(slab.nbytes))

    def close(self) -> None:
        """Close the descriptor, and unmap the pool as soon as no array uses it."""
        os.close(self.fd)
        try:
            self._map.close()
        except BufferError:
            del self._map  # the last array unmaps it


class SlabAllocator:
    """Allocates the slabs of a pool: first fit, page-aligned.  For the threads of exactly one process."""

    def __init__(self, pool: SlabPool) -> None:
        self.pool = pool
        self._free = [Slab(0, pool.size_bytes)]  # by offset; no two of them touch
        self._allocated: dict[int, int] = {}  # rounded length by offset
        self._changed = threading.Condition()

    @property
    def allocated_bytes(self) -> int:
        with self._changed:
            return sum(self._allocated.values())

    def allocate(self, nbytes: int, *, timeout_seconds: float) -> Slab:
        """Return a slab of at least one page, as soon as one is free.

        Raises:
            ImageTooLarge: the pool is smaller.
            SharedMemoryFull: none was free in time.
        """
        if nbytes > self.pool.size_bytes:
            raise ImageTooLarge(
                f"The image needs {nbytes} bytes of shared memory, this worker has {self.pool.size_bytes}"
            )
        with self._changed:
            offset = self._changed.wait_for(lambda: self._take(_round_up(nbytes)), timeout_seconds)
        if offset is None:
            raise SharedMemoryFull("The worker had no shared memory free for the image in time")
        return Slab(offset[0], nbytes)

    @contextmanager
    def lend(self, nbytes: int, *, timeout_seconds: float) -> Iterator[Slab]:
        """Allocate a slab for the length of the block; raises what allocate() raises."""
        slab = self.allocate(nbytes, timeout_seconds=timeout_seconds)
        try:
            yield slab
        finally:
            self.free(slab)

    def free(self, slab: Slab, *, written_bytes: int | None = None) -> None:
        """Free a slab.  One with much in it returns its memory to the system.

        Args:
            written_bytes: how much of it was written; None: all of it.

        Raises:
            ValueError: the slab is not allocated.
        """
        with self._changed:
            nbytes = self._allocated.pop(slab.offset, None)
        if nbytes is None:
            raise ValueError(f"No slab at {slab.offset} is allocated")
        # Before others can allocate it, and outside of the lock, because it takes time.
        if (nbytes if written_bytes is None else written_bytes) >= _MIN_RETURNED_BYTES:
            self.pool.return_memory(Slab(slab.offset, nbytes))
        with self._changed:
            self._insert_free(Slab(slab.offset, nbytes))
            self._changed.notify_all()

    def return_free_memory(self) -> None:
        """Give the memory of everything that is free back to the system; for idle times."""
        with self._changed:
            for slab in self._free:
                self.pool.return_memory(slab)

    def _take(self, nbytes: int) -> tuple[int] | None:
        """Allocate whole pages and return their offset, in a tuple because 0 is an offset; None if no gap fits."""
        for index, gap in enumerate(self._free):
            if gap.nbytes >= nbytes:
                rest = Slab(gap.offset + nbytes, gap.nbytes - nbytes)
                self._free[index : index + 1] = [rest] if rest.nbytes else []
                self._allocated[gap.offset] = nbytes
                return (gap.offset,)
        return None

    def _insert_free(self, slab: Slab) -> None:
        """Insert a gap, joined with the gaps that touch it."""
        index = bisect.bisect_left(self._free, slab.offset, key=lambda gap: gap.offset)
        start, end = slab.offset, slab.offset + slab.nbytes
        first = last = index
        if index > 0 and self._free[index - 1].offset + self._free[index - 1].nbytes == start:
            first, start = index - 1, self._free[index - 1].offset
        if index < len(self._free) and self._free[index].offset == end:
            last, end = index + 1, end + self._free[index].nbytes
        self._free[first:last] = [Slab(start, end - start)]


def _create_file() -> int:
    """Return the descriptor of an empty file in memory, or of a deleted one where the system has no such files."""
    if sys.platform == "linux":
        return os.memfd_create("maskmill-slabs", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _round_up(nbytes: int) -> int:
    """Return whole pages, at least one."""
    return max(1, -(-nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
