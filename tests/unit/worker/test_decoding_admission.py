"""Small images never wait for large ones, large ones come in turn, and the budget is never exceeded."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DecodersBusy, ImageTooLarge
from tests.support.polling import wait_until
from worker.decoding.admission import MemoryBudget

SMALL, LARGE = 100, 600


@pytest.fixture
def budget() -> MemoryBudget:
    """A budget of 1600: 200 for small images, at most 1400 for one."""
    return MemoryBudget(1600)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start_waiting(budget: MemoryBudget, nbytes: int, admitted: list[int], release: threading.Event) -> threading.Thread:
    def run() -> None:
        with budget.admit(nbytes, timeout_seconds=30):
            admitted.append(nbytes)
            release.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_more_than_the_budget_has_for_one_image_is_refused_at_once(budget: MemoryBudget) -> None:
    with pytest.raises(ImageTooLarge), budget.admit(1401, timeout_seconds=60):
        pass


def test_the_largest_image_is_admitted(budget: MemoryBudget) -> None:
    with budget.admit(1400, timeout_seconds=0):
        assert budget.used_bytes == 1400
    assert budget.used_bytes == 0


def test_large_images_leave_room_for_small_ones(budget: MemoryBudget, held: ExitStack) -> None:
    held.enter_context(budget.admit(1400, timeout_seconds=0))

    held.enter_context(budget.admit(SMALL, timeout_seconds=0))
    held.enter_context(budget.admit(SMALL, timeout_seconds=0))

    with pytest.raises(DecodersBusy):
        held.enter_context(budget.admit(SMALL, timeout_seconds=0.01))
    assert budget.used_bytes == 1600


def test_small_images_take_what_large_ones_leave(budget: MemoryBudget, held: ExitStack) -> None:
    for _ in range(16):
        held.enter_context(budget.admit(SMALL, timeout_seconds=0))

    assert budget.used_bytes == 1600


def test_a_small_image_does_not_wait_behind_a_large_one_that_waits(budget: MemoryBudget, held: ExitStack) -> None:
    held.enter_context(budget.admit(1400, timeout_seconds=0))
    admitted: list[int] = []
    release = threading.Event()
    thread = start_waiting(budget, LARGE, admitted, release)

    held.enter_context(budget.admit(SMALL, timeout_seconds=5))
    held.close()
    wait_until(lambda: admitted == [LARGE])
    release.set()
    thread.join()

    assert budget.used_bytes == 0


def test_small_images_do_not_keep_a_large_one_waiting_for_ever(budget: MemoryBudget, held: ExitStack) -> None:
    small = [held.enter_context(ExitStack()) for _ in range(16)]
    for stack in small:
        stack.enter_context(budget.admit(SMALL, timeout_seconds=0))
    admitted: list[int] = []
    release = threading.Event()
    thread = start_waiting(budget, 1400, admitted, release)
    wait_until(lambda: budget.has_waiting)

    for stack in small[:14]:
        stack.close()
        with pytest.raises(DecodersBusy), budget.admit(SMALL, timeout_seconds=0):
            pass

    wait_until(lambda: admitted == [1400])
    release.set()
    thread.join()


def test_large_images_come_in_turn(budget: MemoryBudget, held: ExitStack) -> None:
    held.enter_context(budget.admit(1000, timeout_seconds=0))
    admitted: list[int] = []
    release = threading.Event()
    first = start_waiting(budget, 1300, admitted, release)
    wait_until(lambda: budget.has_waiting)

    # It would fit, but another one waits longer.
    with pytest.raises(DecodersBusy), budget.admit(300, timeout_seconds=0.05):
        pass
    held.close()
    wait_until(lambda: admitted == [1300])
    release.set()
    first.join()


@given(sizes=st.lists(st.integers(1, 1400), min_size=1, max_size=24))
def test_the_budget_is_never_exceeded_and_all_are_admitted(sizes: list[int]) -> None:
    budget = MemoryBudget(1600)
    admitted: list[int] = []

    def run(nbytes: int) -> None:
        with budget.admit(nbytes, timeout_seconds=30):
            assert budget.used_bytes <= 1600
            admitted.append(nbytes)

    threads = [threading.Thread(target=run, args=(nbytes,)) for nbytes in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(admitted) == sorted(sizes)
    assert budget.used_bytes == 0
