"""Slabs never overlap, coalesce back into one, and are shared by processes without a copy."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shared.errors import ImageTooLarge, SharedMemoryFull
from worker.slabs import Slab, SlabAllocator, SlabPool

PAGE = os.sysconf("SC_PAGESIZE")
POOL_BYTES = 64 * PAGE
MIB = 1 << 20


@pytest.fixture
def pool() -> Iterator[SlabPool]:
    pool = SlabPool.create(64 * MIB)
    yield pool
    pool.close()


def used_bytes(pool: SlabPool) -> int:
    return os.fstat(pool.fd).st_blocks * 512


class AllocatorMachine(RuleBasedStateMachine):
    """Random allocations and frees; each slab is filled with its number, so that an overlap shows in the bytes."""

    slabs = Bundle("slabs")

    def __init__(self) -> None:
        super().__init__()
        self.pool = SlabPool.create(POOL_BYTES)
        self.allocator = SlabAllocator(self.pool)
        self.held: dict[int, tuple[Slab, int]] = {}
        self.number = 0

    @rule(target=slabs, nbytes=st.integers(0, POOL_BYTES // 2))
    def allocate(self, nbytes: int) -> int:
        self.number += 1
        try:
            slab = self.allocator.allocate(nbytes, timeout_seconds=0)
        except SharedMemoryFull:
            return 0
        assert slab.offset % PAGE == 0
        assert slab.offset + slab.nbytes <= POOL_BYTES
        self.pool.view(slab, (slab.nbytes,), np.uint8)[:] = self.number % 251
        self.held[self.number] = (slab, self.number % 251)
        return self.number

    @rule(number=consumes(slabs))
    def free(self, number: int) -> None:
        if number in self.held:
            self.allocator.free(self.held.pop(number)[0])

    @invariant()
    def no_slab_was_overwritten(self) -> None:
        for slab, value in self.held.values():
            assert (self.pool.view(slab, (slab.nbytes,), np.uint8) == value).all()

    @invariant()
    def the_count_is_right(self) -> None:
        pages = sum(max(1, -(-slab.nbytes // PAGE)) for slab, _ in self.held.values())
        assert self.allocator.allocated_bytes == pages * PAGE

    def teardown(self) -> None:
        for slab, _ in self.held.values():
            self.allocator.free(slab)
        whole = self.allocator.allocate(POOL_BYTES, timeout_seconds=0)
        assert whole == Slab(0, POOL_BYTES)
        self.allocator.free(whole)
        self.pool.close()


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_more_than_the_pool_is_refused_at_once(pool: SlabPool) -> None:
    with pytest.raises(ImageTooLarge, match="67108865 bytes of shared memory, this worker has 67108864"):
        SlabAllocator(pool).allocate(64 * MIB + 1, timeout_seconds=60)


def test_a_full_pool_is_an_error_after_the_timeout(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    allocator.allocate(40 * MIB, timeout_seconds=0)

    with pytest.raises(SharedMemoryFull):
        allocator.allocate(40 * MIB, timeout_seconds=0.01)


def test_an_allocation_waits_for_a_free(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    first = allocator.allocate(40 * MIB, timeout_seconds=0)
    found: list[Slab] = []
    thread = threading.Thread(target=lambda: found.append(allocator.allocate(50 * MIB, timeout_seconds=30)))
    thread.start()

    allocator.free(first)
    thread.join(30)

    assert found == [Slab(0, 50 * MIB)]


def test_many_threads_never_share_a_slab(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    overlaps: list[int] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(100):
            with allocator.lend(int(rng.integers(1, 12 * MIB)), timeout_seconds=30) as slab:
                view = pool.view(slab, (slab.nbytes,), np.uint8)[::PAGE]
                view[:] = number
                overlaps.extend(view[view != number].tolist())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert overlaps == []
    assert allocator.allocated_bytes == 0


def test_freeing_twice_is_an_error(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    slab = allocator.allocate(10, timeout_seconds=0)
    allocator.free(slab)

    with pytest.raises(ValueError, match="No slab at 0"):
        allocator.free(slab)


def test_a_slab_that_an_exception_leaves_is_freed(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)

    with pytest.raises(KeyError), allocator.lend(10, timeout_seconds=0):
        raise KeyError

    assert allocator.allocated_bytes == 0


def test_a_view_must_fit_its_slab(pool: SlabPool) -> None:
    slab = SlabAllocator(pool).allocate(100, timeout_seconds=0)

    with pytest.raises(ValueError, match="101 bytes does not fit into a slab of 100"):
        pool.view(slab, (101,), np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux returns pages of a shared file")
def test_a_large_slab_returns_its_memory_when_it_is_freed(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    slab = allocator.allocate(8 * MIB, timeout_seconds=0)
    pool.view(slab, (8 * MIB,), np.uint8)[:] = 1
    assert used_bytes(pool) >= 8 * MIB

    allocator.free(slab)

    assert used_bytes(pool) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux returns pages of a shared file")
def test_a_large_slab_with_little_in_it_keeps_its_pages_for_the_next_one(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    slab = allocator.allocate(8 * MIB, timeout_seconds=0)
    pool.view(slab, (MIB,), np.uint8)[:] = 1

    allocator.free(slab, written_bytes=MIB)

    assert used_bytes(pool) == MIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux returns pages of a shared file")
def test_a_small_slab_returns_its_memory_in_idle_times(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    with allocator.lend(PAGE, timeout_seconds=0) as slab:
        pool.view(slab, (PAGE,), np.uint8)[:] = 1
    assert used_bytes(pool) == PAGE

    allocator.return_free_memory()

    assert used_bytes(pool) == 0


def test_another_process_sees_the_bytes_and_answers_in_place(pool: SlabPool) -> None:
    allocator = SlabAllocator(pool)
    allocator.allocate(3 * PAGE, timeout_seconds=0)
    slab = allocator.allocate(12, timeout_seconds=0)
    pool.write(slab, b"abcdefghijkl")
    code = (
        "import numpy as np; from worker.slabs import Slab, SlabPool;"
        f"pool = SlabPool.attach({pool.fd}, {pool.size_bytes}); slab = Slab({slab.offset}, {slab.nbytes});"
        "pool.view(slab, (3, 4), np.uint8)[1] += 1; assert pool.read(slab, 4) == b'abcd'"
    )

    subprocess.run([sys.executable, "-c", code], pass_fds=[pool.fd], check=True)

    assert pool.read(slab, 12) == b"abcdfghiijkl"


def test_an_array_outlives_the_pool(pool: SlabPool) -> None:
    other = SlabPool.create(PAGE)
    view = other.view(Slab(0, PAGE), (PAGE,), np.uint8)

    other.close()
    view[:] = 7

    assert view.sum() == 7 * PAGE
